"""What is fuzzed: a fleet of one plane with its gateway, and a control plane by itself.

The control plane by itself has planes that only say they are there, so that what is applied there
starts no processes whose work would be measured as the API's. Every process is a real one.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp

from skerry.cli.down import stop_directory
from skerry.cli.supervisor.first_key import ensure_first_key
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.log_files import log_files
from skerry.cli.supervisor.parts import start_part
from skerry.cli.supervisor.preparation import Choices, prepare
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.supervisor.stopping import stop_fleet
from skerry.cli.up import start_fleet
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.joining import parse_token
from skerry.fleet.observation import PlaneState
from skerry.plumbing.certificates import CA_NAME, Subject, ensure_certificate
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord, is_alive
from skerry.plumbing.rpc import TlsFiles
from skerry.plumbing.tasks import beside
from tests.fuzz.doors import Joinable
from tests.integration.link_world import Side
from workload_plane.link.client import LinkClient
from workload_plane.link.connection import LinkSettings
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

CLOCK = SystemClock()
DEPLOYMENT, SERVED = "chat", "chat-model"
STEADY = "steady"  # a plane that is there all the while and says nothing wrong
WAIT_SECONDS_MAX = 180.0
_LOOK_SECONDS = 0.1
_TRACEBACK = b"Traceback (most recent call last)"
_SHOWN_BYTES = 1_500


@dataclass(slots=True)
class Fuzzed:
    """A running fleet, what it has said so far, and which of its processes must not end."""

    directory: DataDirectory
    layout: Layout
    watched: dict[str, ProcessRecord] = field(default_factory=dict)
    _read: dict[Path, int] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """Return the admin's token."""
        return self.directory.operator_token.read_text().strip()

    @property
    def key(self) -> str:
        """Return the owner's API key."""
        return self.directory.api_key.read_text().strip()

    @property
    def gateway(self) -> str:
        """Return where users ask."""
        return f"127.0.0.1:{self.layout.planes[0].ports.public}"

    @property
    def http(self) -> str:
        """Return where the operator API answers as JSON."""
        return self.layout.control_planes[0].http_address

    def client(self) -> AsyncOperatorClient:
        """Return an admin's client."""
        return AsyncOperatorClient(
            fleet_context(self.directory, self.layout), SystemIds(CLOCK), "user:fuzz"
        )

    def tls(self, plane: str) -> TlsFiles:
        """Return certificates of the fleet for a plane of that name."""
        subject = Subject(
            name=plane,
            uris=(f"skerry://projects/default/planes/{plane}",),
            dns_names=("localhost", plane),
            addresses=("127.0.0.1",),
        )
        folder = self.directory.pki / "planes" / plane
        return ensure_certificate(self.directory.pki / "authority", folder, subject, CLOCK.now())

    def new_faults(self) -> list[str]:
        """Return the tracebacks in the logs since the last look, and the processes that ended."""
        faults = []
        for path in log_files(self.directory):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
                self._read[path] = file.tell()
            where = data.find(_TRACEBACK)
            if where < 0:
                where = data.find(b"event=rpc.failed")
            if where >= 0:
                shown = data[max(0, where - 300) : where + _SHOWN_BYTES]
                name = path.relative_to(self.directory.root)
                count = data.count(_TRACEBACK)
                faults.append(f"{name}: {count} tracebacks: {shown.decode(errors='replace')}")
        faults += [f"{name} ended" for name, one in self.watched.items() if not is_alive(one)]
        return faults

    async def joinable(self) -> Joinable:
        """Return the join port, with open invites to some planes."""
        planes = tuple(f"joiner-{number}" for number in range(4))
        at, ends = self.layout.control_planes[0], CLOCK.now() + timedelta(hours=12)
        async with self.client() as client:
            invites = [await client.create_plane_invite(plane, ends) for plane in planes]
        return Joinable(
            address=at.join_address,
            roots=self.directory.pki / "authority" / CA_NAME,
            server_name=CONTROL_PLANE_SERVER_NAME,
            proofs=tuple(parse_token(invite.token).proof for invite in invites),
            planes=planes,
        )

    async def asked(self, http: aiohttp.ClientSession) -> bool:
        """Say whether the gateway answers a user."""
        body = {"model": SERVED, "prompt": "hello", "max_tokens": 1}
        headers = {"authorization": f"Bearer {self.key}"} if self.layout.keys else {}
        url = f"http://{self.gateway}/v1/completions"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with http.post(url, json=body, headers=headers) as answer:
                return answer.status == 200
        return False


def a_deployment(replicas: int) -> Deployment:
    """Return a deployment whose replicas answer fast."""
    options = {"ttft-seconds": "0.002", "tpot-seconds": "0.001", "jitter": "0"}
    return Deployment(
        name=DEPLOYMENT,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="simulated://tiny", served_name=SERVED),
            engine=EngineSpec(
                name=EngineName.SIMULATED,
                concurrent_requests=64,
                options=tuple(options.items()),
            ),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(min_replicas=replicas, max_replicas=replicas),
    )


@contextlib.asynccontextmanager
async def a_plane(root: Path, *, keys: bool = False) -> AsyncIterator[Fuzzed]:
    """Yield a fleet of `skerry up` with one plane that serves; nothing is left at the end.

    With `keys` its gateway asks for them.
    """
    directory = DataDirectory(root)
    layout, supervisor = await start_fleet(
        directory, 1, "simulated", restart_control_plane=False, choices=Choices(keys=keys)
    )
    fuzzed = Fuzzed(directory, layout)
    try:
        async with fuzzed.client() as client, aiohttp.ClientSession() as http:
            async for _ in until_ready(directory, layout, supervisor, client, CLOCK):
                pass
            await client.apply(a_deployment(2))
            if keys:
                await ensure_first_key(directory.api_key, client, CLOCK)
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                while not await fuzzed.asked(http):
                    await CLOCK.sleep(_LOOK_SECONDS)
        living = read_living_processes(directory.processes)
        fuzzed.watched = {str(key): record for key, record in living.items()}
        yield fuzzed
    finally:
        await stop_directory(directory, CLOCK)


@contextlib.asynccontextmanager
async def a_control_plane(root: Path) -> AsyncIterator[Fuzzed]:
    """Yield a control plane with one plane that only says it is there."""
    directory = DataDirectory(root)
    layout = prepare(directory, 1, "simulated", CLOCK.now(), os.environ)
    key = PartKey(role=Role.CONTROL_PLANE)
    record = start_part(directory, key)
    assert record is not None
    fuzzed = Fuzzed(directory, layout, {str(key): record})
    settings = LinkSettings(
        control_planes=(layout.control_planes[0].link_address,),
        tls=fuzzed.tls(STEADY),
        project="default",
        agent_id=STEADY,
    )
    link = LinkClient(settings, Side(STEADY), asyncio.Event(), CLOCK, SystemIds(CLOCK))
    try:
        async with beside(link.run()), fuzzed.client() as client:
            await _until_connected(client)
            await client.apply(a_deployment(2))
            yield fuzzed
    finally:
        await stop_fleet(directory, {key: record}, CLOCK)


async def _until_connected(client: AsyncOperatorClient) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            with contextlib.suppress(SkerryError):
                planes = await client.list_planes()
                if [plane.state for plane in planes] == [PlaneState.CONNECTED]:
                    return
            await CLOCK.sleep(_LOOK_SECONDS)
