"""Secrets put wherever one may enter a running fleet, and searched for wherever one may come out.

Each canary is used, and refused where it can be, before the search: what is only there after a
failure is found, too.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import jwt
import pytest

from control_plane.dashboard.routes import PAGES
from skerry.cli.support.asked import pages_of
from skerry.fleet.access import Grant, Role
from skerry.fleet.api_key import KeyTerms
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.joining import parse_token
from skerry.fleet.routing import Routing
from skerry.plumbing.ports import free_port
from tests.integration.canary_world import (
    CLOCK,
    HOST,
    OF_DATABASE,
    SECONDS_MAX,
    SERVED,
    Canaries,
    a_fleet,
    command_lines,
    found_in,
    unpacked,
    whole,
)
from tests.integration.leading_world import Postgres
from tests.integration.replica_process import environment_of_process

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(600)]

# Of the environment that `skerry up` is started in; each is read by some part of a plane.
OF_ENVIRONMENT = {
    "HF_TOKEN": "hf_canaryofthehub000001",
    "AWS_ACCESS_KEY_ID": "AKIACANARYOFBUCKET02",
    "AWS_SECRET_ACCESS_KEY": "canaryofthebucket000003",
    "SKERRY_API_KEY": "canaryoftheclient000004",
    "RAY_AUTH_TOKEN": "canaryofthecluster00005",
}
OF_USERS, OF_CALLERS = "canaryofauser0000000006", "canaryofacaller00000007"
# Who holds a secret because that is what it is for: whoever reads these may have it. Private keys
# are each in a file of its own, `*.key`.
KEEPERS = {
    ("database", "layout.json"),
    ("database", "control-plane/settings.json"),
    ("bootstrap", "operator.token"),
    ("first key", "api.key"),
}
JOINER = "joined-later"
COMMANDS = (
    *(("get", kind, "-o", "json") for kind in ("planes", "replicas", "deployments", "changes")),
    *(("token", "list", "-o", "json"), ("key", "list", "-o", "json")),
    *(("plane", "invites", "-o", "json"), ("plane", "identities", "-o", "json")),
    *(("explain", "deployment", "served"), ("describe", "deployment", "fetched"), ("export",)),
    *(("audit", "verify"), ("logs", "control-plane"), ("logs", "supervisor")),
)
ADMIN = (
    "config_dump?resource=dynamic_listeners",
    *("stats", "stats/prometheus", "clusters?format=json", "certs", "server_info"),
)


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Canaries]:
    for name, value in OF_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    # Nobody listens there: what the library says of that is what people read.
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port(HOST)}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    # Not below tmp_path: it must be open to the server's own user.
    with (
        tempfile.TemporaryDirectory(prefix="skerry-pg-") as folder,
        contextlib.closing(Postgres(Path(folder))) as postgres,
    ):
        async with a_fleet(tmp_path / "fleet", OF_ENVIRONMENT, postgres.url) as made:
            yield made


def a_deployment(name: str, uri: str, engine: EngineName) -> Deployment:
    return Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri=uri, served_name=SERVED if name == "served" else name),
            engine=EngineSpec(name=engine),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(min_replicas=1, max_replicas=1),
        routing=Routing(continuation=True),  # so that there is a relay, too
    )


async def until_settled(fleet: Canaries, key: str) -> None:
    """Return once one deployment serves and the other has failed to fetch its base model."""
    wanted = ("served", "canary-bucket")
    jobs = {"control-plane", "agent", "picker", "relay", "gateway", "replica"}
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            log = fleet.directory.plane(fleet.layout.planes[0].name) / "logs" / "agent.log"
            names = {page.name for page in pages_of(fleet.directory.targets)}
            if (
                all(word in log.read_text() for word in wanted)
                and all(any(f"skerry-{job}-" in name for name in names) for job in jobs)
                and await fleet.ask(SERVED, key) == 200
            ):
                return
            await CLOCK.sleep(0.1)


async def make_credentials(fleet: Canaries) -> None:
    """Have one credential of each kind made, and have it used as it is used."""
    operator, secrets = fleet.operator, fleet.secrets
    made = await operator.create_service_token(
        "canary", Grant(role=Role.VIEWER, projects=("default",))
    )
    bootstrap = fleet.directory.operator_token.read_text().strip()
    key = fleet.directory.api_key.read_text().strip()
    elsewhere = await operator.create_api_key("elsewhere", KeyTerms(deployments=("fetched",)))
    people = jwt.encode({"sub": OF_CALLERS, "iss": "https://id.example.com"}, OF_CALLERS * 2)
    secrets |= {
        "service token": made.text[-43:],
        "bootstrap": bootstrap[-43:],
        "first key": key[-43:],
        "other key": elsewhere.text[-43:],
        "oidc": people,
        "oidc signature": people.rpartition(".")[2],
        "user": OF_USERS,
        "caller": OF_CALLERS,
    }
    await until_settled(fleet, key)
    for token in (made.text, f"{made.text}x", bootstrap[:-1], people, OF_CALLERS, key):
        await fleet.call_as(token)
        await fleet.sign_in(token)
        http = f"http://{fleet.layout.control_planes[0].http_address}"
        method = "skerry.api.operator.v1.OperatorService/ListPlanes"
        shown = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        await fleet.show("JSON", f"{http}/{method}", b"{}", shown)
    for model in (SERVED, "no-such-model"):
        for credential in (key, f"{key}x", elsewhere.text, OF_USERS, made.text):
            await fleet.ask(model, credential)
            await fleet.generate(model, credential)
    # Nobody serves it: both are held for as long as they may be.
    await asyncio.gather(
        fleet.ask("fetched", elsewhere.text), fleet.generate("fetched", elsewhere.text)
    )
    basic = base64.b64encode(f"user:{OF_USERS}".encode()).decode()
    await fleet.ask(SERVED, authorization=f"Basic {basic}")
    await fleet.ask(SERVED, key, **{"x-api-key": OF_USERS, "cookie": f"key={OF_USERS}"})


async def join(fleet: Canaries, capfd: pytest.CaptureFixture[str]) -> None:
    """Invite a plane, join it, and show its token twice."""
    invite = await fleet.operator.create_plane_invite(JOINER, CLOCK.now() + timedelta(hours=1))
    proof = parse_token(invite.token).proof
    fleet.secrets["join token"] = proof[-43:]
    above = fleet.directory.root.parent
    file = above / "join.token"
    file.write_text(invite.token)
    where = ("--control-plane", invite.join_address)
    words = ("plane", "join", "--token-file", str(file), *where)
    await fleet.command(capfd, *words, "--data-dir", str(above / "joined"))
    with pytest.raises(AssertionError, match="used") as refused:
        await fleet.command(capfd, *words, "--data-dir", str(above / "joined-again"))
    fleet.tell("a join token's second use", str(refused.value).encode())


async def visit(fleet: Canaries) -> None:
    """Read every page of the dashboard, signed in as the admin."""
    await fleet.sign_in(fleet.directory.operator_token.read_text().strip())
    (cookie,) = list(fleet.browser.cookie_jar)
    fleet.secrets["dashboard's cookie"] = cookie.value
    plane = fleet.layout.planes[0].name
    change = (await fleet.operator.latest_changes(1))[0].sequence
    parts = {"verb": "drain", "number": "1", "sequence": str(change)}
    names = {"planes": plane, "deployments": "served"}
    queries = {
        "/placements/why": "?deployment=fetched",
        "/survival/what-if": "?lose=plane&lose_name=" + plane,
        "/actions/{verb}": f"?part=planes/{plane}",
    }
    for path, _ in PAGES:
        name = names.get(path.split("/")[1], "")
        url = f"{fleet.dashboard}{path.format(**parts, name=name)}{queries.get(path, '')}"
        await fleet.fetch("dashboard", url, fleet.browser)


async def ask_all(fleet: Canaries, capfd: pytest.CaptureFixture[str]) -> None:
    """Keep what every process, every command and the database tell."""
    for page in fleet.pages:
        await fleet.fetch(page.name, page.url)
    admin = f"http://{HOST}:{fleet.layout.planes[0].ports.admin}"
    for name in ADMIN:
        await fleet.fetch("envoy", f"{admin}/{name}")
    for replica in fleet.replicas:
        await fleet.fetch("engine", f"http://{HOST}:{replica.http_port}/metrics")
        for pid in (replica.pid, replica.engine_pid):
            fleet.tell(f"environment of {replica.name}", environment_of_process(pid))
    for words in COMMANDS:
        await fleet.command(capfd, *words)
    above, home = fleet.directory.root.parent, ("--data-dir", str(fleet.directory.root))
    audit, backup, bundle = (above / name for name in ("audit", "backup", "bundle"))
    await fleet.command(capfd, "audit", "export", "-o", str(audit))
    await fleet.command(capfd, "backup", str(backup), *home)
    for verb in ("list", "rotate"):
        await fleet.command(capfd, "secrets", verb, *home)
    await fleet.command(capfd, "bundle", "-o", str(bundle), "--engine-logs", *home)
    fleet.tell("audit", audit.read_bytes())
    fleet.tell("backup", gzip.decompress(backup.read_bytes()))
    archive = unpacked(bundle.read_bytes())
    assert any(name.endswith("agent.log") for name in archive), sorted(archive)
    fleet.told |= {f"bundle {name}": data for name, data in archive.items()}
    fleet.told |= {f"postgres {name}": data for name, data in whole(fleet.database).items()}
    fleet.told |= command_lines()


async def test_no_secret_comes_out_of_a_fleet_anywhere(
    fleet: Canaries, capfd: pytest.CaptureFixture[str]
) -> None:
    root = fleet.directory.root
    await fleet.operator.apply(a_deployment("served", "simulated://tiny", EngineName.SIMULATED))
    uri = "s3://canary-bucket/m.gguf"
    await fleet.operator.apply(a_deployment("fetched", uri, EngineName.LLAMACPP))
    await make_credentials(fleet)
    await join(fleet, capfd)
    await visit(fleet)
    for path in (*root.rglob("*.key"), *(root.parent / "joined").rglob("*.key")):
        # The authority's is sealed, and no file may have it.
        if path not in (fleet.directory.api_key, fleet.directory.pki / "authority" / "ca.key"):
            fleet.secrets[f"key {path.relative_to(root.parent)}"] = path.read_text().split("\n")[1]
    await ask_all(fleet, capfd)
    files = {**whole(root), **{f"../{n}": d for n, d in whole(root.parent / "joined").items()}}
    assert {"layout.json", "supervisor.log", "control-plane/log"} <= set(files)
    assert {"first key", "join token", "database", "caller"} <= set(fleet.secrets)
    assert {"sealing key", "authority"} <= set(fleet.secrets)
    assert any(name.startswith("key ") for name in fleet.secrets)
    of_files = {
        (secret, place)
        for secret, place in found_in(files, fleet.secrets)
        if not (secret.startswith("key ") and place.endswith(".key"))
    }
    assert found_in(fleet.told, fleet.secrets) == set()
    # Not fewer, either: the search finds what is there.
    assert of_files == KEEPERS
    planted = base64.b64encode(json.dumps({"a": OF_DATABASE}).encode())
    assert found_in({"planted": planted}, fleet.secrets) == {("database", "planted")}
