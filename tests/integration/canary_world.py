"""A fleet of `skerry up` with a canary wherever a secret may enter, and all that it tells.

One plane with every part, on a PostgreSQL whose URL has a password. `told` is what came out, by
where that was; `secrets` are the canaries, by what they are.
"""

import asyncio
import base64
import gzip
import io
import re
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import pytest
from sqlalchemy import make_url
from yarl import URL

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc
from skerry.cli.down import stop_directory
from skerry.cli.main import run
from skerry.cli.session import Session
from skerry.cli.shown_once import write_secret
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.preparation import Choices
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.support.asked import Page, pages_of
from skerry.cli.up import start_fleet, wait_until_ready
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.certificates import key_pem, read_authority_key
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.sealing import keyring_of, new_key_text
from workload_plane.replicas.records import ReplicaRecord, read_records

CLOCK = SystemClock()
HOST, SERVED = "127.0.0.1", "canary-model"
OF_DATABASE = "canaryofthedatabase0008"
SECONDS_MAX = 90.0


@dataclass
class Canaries:
    """A fleet, the canaries in it, and what it has told so far by where that came from.

    `database` is PostgreSQL's own folder. The `browser` has the dashboard's cookie, which would
    otherwise go to every port of this address.
    """

    directory: DataDirectory
    layout: Layout
    database: Path
    operator: AsyncOperatorClient
    http: aiohttp.ClientSession
    browser: aiohttp.ClientSession
    secrets: dict[str, str]
    told: dict[str, bytes] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        """Return where users ask."""
        return f"{HOST}:{self.layout.planes[0].ports.public}"

    @property
    def dashboard(self) -> str:
        """Return where the dashboard is."""
        return f"http://{self.layout.control_planes[0].dashboard_address}"

    @property
    def replicas(self) -> tuple[ReplicaRecord, ...]:
        """Return the plane's replicas that serve."""
        records = read_records(self.directory.plane(self.layout.planes[0].name) / "replicas")
        return tuple(one for one in records if one.state is ReplicaState.READY)

    @property
    def pages(self) -> tuple[Page, ...]:
        """Return the pages of metrics that the fleet says it has."""
        return pages_of(self.directory.targets)

    def tell(self, where: str, what: bytes) -> None:
        """Keep what came out."""
        self.told[f"{len(self.told)} {where}"] = what

    async def ask(self, model: str, key: str = "", **headers: str) -> int:
        """Ask over HTTP with a key and headers; return the status, keep what came."""
        shown = ({"authorization": f"Bearer {key}"} if key else {}) | headers
        body = {"model": model, "prompt": "hello", "max_tokens": 1}
        url = f"http://{self.gateway}/v1/completions"
        async with self.http.post(url, json=body, headers=shown) as answer:
            self.tell(f"answer {answer.status}", await _whole(answer))
            return answer.status

    async def generate(self, model: str, key: str) -> None:
        """Ask over gRPC with a key; an error's text is kept."""
        async with grpc.aio.insecure_channel(self.gateway) as channel:
            request = generation_pb2.GenerateRequest(model=model, prompt="hello")
            call = openengine_pb2_grpc.InferenceStub(channel).Generate(
                request, metadata=(("authorization", f"Bearer {key}"),)
            )
            try:
                self.tell("generated", str([one async for one in call]).encode())
            except grpc.aio.AioRpcError as error:
                self.tell("not generated", repr(error).encode())

    async def fetch(self, name: str, url: str, client: aiohttp.ClientSession | None = None) -> None:
        """Keep what a process tells at an address; anything but 200 is a fault of the test."""
        async with (client or self.http).get(url) as answer:
            told = await _whole(answer)
            assert answer.status == 200, (url, answer.status, told[:500])
            self.tell(f"{name} {URL(url).path_qs}", told)

    async def show(self, where: str, url: str, data: object, headers: Mapping[str, str]) -> None:
        """Post something that may be refused, and keep what is said of it."""
        async with self.http.post(url, data=data, headers=headers) as answer:
            self.tell(f"{where} {answer.status}", await _whole(answer))

    async def call_as(self, token: str) -> None:
        """Call as whoever shows a token, with a read and a write; what is refused is kept."""
        context = Context(endpoints=self.layout.operator_addresses, token=token)
        async with AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as caller:
            for call in (caller.list_planes, lambda: caller.cordon("planes/none", cordoned=True)):
                try:
                    await call()
                except SkerryError as error:
                    self.tell("refused by the operator port", repr(error).encode())

    async def sign_in(self, token: str) -> None:
        """Sign in at the dashboard, or be refused."""
        where, url = {"Origin": self.dashboard}, f"{self.dashboard}/login"
        async with self.browser.post(url, data={"token": token}, headers=where) as answer:
            self.tell(f"sign-in {answer.status}", await _whole(answer))

    async def command(self, capfd: pytest.CaptureFixture[str], *words: str) -> None:
        """Keep what a command prints; it must end well."""
        capfd.readouterr()
        code = await asyncio.to_thread(run, ["--config", str(self.directory.config), *words])
        printed = "\n".join(capfd.readouterr())
        assert code == 0, (words, printed)
        self.tell(f"skerry {' '.join(words)}", printed.encode())


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """Return an answer with its headers, but for the cookie that is its only reader's own."""
    kept = [f"{name}: {value}" for name, value in answer.headers.items() if name != "Set-Cookie"]
    return "\n".join(kept).encode() + await answer.read()


@asynccontextmanager
async def a_fleet(root: Path, secrets: Mapping[str, str], postgres: str) -> AsyncIterator[Canaries]:
    """Yield the fleet on that PostgreSQL, once its plane is connected and its first key is made.

    Its authority is sealed by a key that lies beside the fleet's directory.
    """
    directory = DataDirectory(root)
    sealing = root.parent / "sealing.key"
    write_secret(sealing, new_key_text(SystemIds(CLOCK)))
    url = make_url(postgres).set(password=OF_DATABASE).render_as_string(hide_password=False)
    layout, supervisor = await start_fleet(
        directory,
        1,
        "llamacpp",
        restart_control_plane=False,
        choices=Choices(database=url, sealing_keys=(f"file:{sealing}",)),
    )
    context = fleet_context(directory, layout)
    # Otherwise cookies of an address, not of a name, are not kept.
    jar = aiohttp.CookieJar(unsafe=True)
    try:
        async with (
            AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
            aiohttp.ClientSession() as http,
            aiohttp.ClientSession(cookie_jar=jar) as browser,
        ):
            console = Session(no_color=True).console()
            await wait_until_ready(console, directory, layout, supervisor)
            text = sealing.read_text().strip()
            keys = keyring_of([text])
            authority = read_authority_key(directory.pki / "authority", keys)
            known = dict(secrets) | {
                "database": OF_DATABASE,
                "sealing key": text[-43:],
                "authority": key_pem(authority).decode().split("\n")[1],
            }
            files = Path(str(make_url(postgres).query["host"]))
            yield Canaries(directory, layout, files, operator, http, browser, known)
    finally:
        await stop_directory(directory, CLOCK)


def whole(root: Path) -> Mapping[str, bytes]:
    """Return the bytes of every file below a directory, by its path from there."""
    found = {}
    for path in root.rglob("*"):
        try:
            if path.is_file():
                found[str(path.relative_to(root))] = path.read_bytes()
        except FileNotFoundError:
            continue  # written anew meanwhile
    return found


def unpacked(archive: bytes) -> Mapping[str, bytes]:
    """Return the files of a support archive."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
        for member in tar:
            file = tar.extractfile(member)
            found[member.name] = file.read() if file else b""
    return found


def command_lines() -> Mapping[str, bytes]:
    """Return the command line of every process of this host."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[str(path)] = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def _forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as itself, and as it is inside of anything that was made base 64 as a whole.

    There it looks one of three ways, by what comes before; what its neighbours change is cut.
    """
    data = secret.encode()
    yield data
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).rstrip(b"=")
        inside = encoded[(before * 4 + 2) // 3 : -1]
        yield inside
        yield inside.translate(bytes.maketrans(b"+/", b"-_"))


def found_in(told: Mapping[str, bytes], secrets: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return which secret is where, as itself or as base 64."""
    names = {form: name for name, text in secrets.items() for form in _forms(text)}
    any_of_them = re.compile(b"|".join(re.escape(form) for form in names))
    return {
        (names[hit], place)
        for place, data in told.items()
        for hit in set(any_of_them.findall(data))
    }
