"""A fleet whose certificates end soon, and everybody who opens connections with them.

Two planes of `skerry up`, of which the first alone has replicas. `soak_certificates` runs it.
"""

import asyncio
import contextlib
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from cryptography import x509

from skerry.cli.down import stop_directory
from skerry.cli.supervisor.fleet_file import gateways_of, read_fleet
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.pki import FleetPki, ensure_pki
from skerry.cli.supervisor.preparation import AS_BEFORE
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet
from skerry.client.gateways import Gateway
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.deployment import Deployment, PlacementPolicy, Scaling
from skerry.plumbing.certificates import Subject, issue
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import is_alive, signal_process
from skerry.plumbing.rpc import TlsFiles
from tests.faults.fleet import CLOCK, SERVED, WAIT_SECONDS_MAX, a_deployment

LONG = "long-model"  # a token a second: its streams are open for as long as they have tokens
PEERS = "ssl.handshake"
_DAY_SECONDS = 86_400.0
_PROBE_SECONDS = 1.0
LINK_UP = "event=link.up"
_KNOCK_SECONDS_MAX = 10.0
_REPLICAS = 2


@dataclass
class ShortLived:
    """The fleet, and what was done to it."""

    directory: DataDirectory
    layout: Layout
    gateways: tuple[Gateway, ...]
    http: aiohttp.ClientSession
    pki: FleetPki
    life_seconds: float
    renewals: int = 0
    cuts: int = 0
    handshakes: int = 0
    refused: int = 0
    # A pair that is read while it is written is no pair: that is ours, not the fleet's.
    _pair: asyncio.Lock = field(default_factory=asyncio.Lock)

    def renew(self) -> None:
        """Give everybody a certificate that lives so long from now."""
        for files in (self.pki.control_plane, *self.pki.planes.values()):
            issue(
                self.directory.pki / "authority",
                files.cert.parent,
                subject_of(files.cert),
                CLOCK.now(),
                self.life_seconds / _DAY_SECONDS,
            )
        self.renewals += 1

    async def renew_for_ever(self) -> None:
        """Renew at half of their life."""
        while True:
            await CLOCK.sleep(self.life_seconds / 2)
            async with self._pair:
                await asyncio.to_thread(self.renew)

    async def knock_for_ever(self) -> None:
        """Ask at each peer port on a new connection, as a gateway with its newest certificate."""
        while True:
            await CLOCK.sleep(_PROBE_SECONDS)
            for plane, files in self._peers():
                try:
                    await self._knock(plane, files)
                    self.handshakes += 1
                except (OSError, aiohttp.ClientError, TimeoutError) as error:
                    print(f"  {plane}'s peer port: {error!r}", file=sys.stderr)
                    self.refused += 1

    def keep_one(self) -> TlsFiles:
        """Return a copy of the first plane's certificate of now, which nobody renews."""
        files = self.pki.planes[self.layout.planes[0].name]
        folder = self.directory.root.parent / "kept"
        shutil.copytree(files.cert.parent, folder)
        return TlsFiles(
            ca=folder / files.ca.name,
            cert=folder / files.cert.name,
            key=folder / files.key.name,
        )

    async def takes(self, files: TlsFiles) -> bool:
        """Say whether the second plane's peer port lets who shows these in."""
        with contextlib.suppress(OSError, aiohttp.ClientError):
            await self._knock(self.layout.planes[1].name, files)
            return True
        return False

    def _peers(self) -> list[tuple[str, TlsFiles]]:
        """Return each plane with the files of the other one."""
        names = [plane.name for plane in self.layout.planes]
        return [
            (one, self.pki.planes[other]) for one, other in zip(names, reversed(names), strict=True)
        ]

    async def _knock(self, plane: str, files: TlsFiles) -> None:
        async with self._pair:
            context = ssl.create_default_context(cafile=str(files.ca))
            context.load_cert_chain(files.cert, files.key)
        url = f"https://127.0.0.1:{self.layout.plane(plane).ports.peer}/skerry/alive"
        connector = aiohttp.TCPConnector(ssl=context)
        # With TLS 1.3 a client is refused after its handshake: only an answer says it is in.
        async with (
            asyncio.timeout(_KNOCK_SECONDS_MAX),
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url) as answer,
        ):
            answer.raise_for_status()

    async def cut_for_ever(self, every_seconds: float) -> None:
        """End one agent after the other; the supervisor starts it again."""
        while True:
            for plane in self.layout.planes:
                await CLOCK.sleep(every_seconds)
                key = PartKey(role=Role.AGENT, plane=plane.name)
                agent = read_living_processes(self.directory.processes).get(key)
                if agent is not None and is_alive(agent):
                    signal_process(agent, signal.SIGKILL)
                    self.cuts += 1

    async def links_are_back(self) -> None:
        """Wait until who was cut last has its link again."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while self.told(LINK_UP) < len(self.layout.planes) + self.cuts:
                await CLOCK.sleep(0.1)

    def told(self, event: str) -> int:
        """Return how often the agents' logs tell of an event."""
        logs = [self.directory.plane(one.name) / "logs" for one in self.layout.planes]
        texts = [path.read_text() for log in logs for path in log.glob("agent.log*")]
        return sum(text.count(event) for text in texts)

    async def gateway_handshakes(self) -> int:
        """Return how many TLS connections the second plane's gateway has made to its peer."""
        admin = self.layout.planes[1].ports.admin
        async with self.http.get(f"http://127.0.0.1:{admin}/stats?filter={PEERS}") as answer:
            lines = (await answer.text()).splitlines()
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("cluster."))


def subject_of(certificate: Path) -> Subject:
    """Return whom a certificate names."""
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return Subject(
        name=certificate.stem,
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(one) for one in names.get_values_for_type(x509.IPAddress)),
    )


def deployments(cloud: str) -> tuple[Deployment, Deployment]:
    """Return what answers fast and what answers for long, both in one cloud alone."""
    fast = replace(
        a_deployment(continuation=False),
        scaling=Scaling(min_replicas=_REPLICAS, max_replicas=_REPLICAS),
        policy=PlacementPolicy(clouds=(cloud,)),
    )
    options = {"tpot-seconds": "1.0", "tpot-seconds-per-request": "0", "jitter": "0"}
    engine = replace(fast.revision.engine, options=tuple(options.items()))
    base_model = replace(fast.revision.base_model, served_name=LONG)
    slow = replace(
        fast,
        name="long",
        revision=replace(fast.revision, engine=engine, base_model=base_model),
        scaling=Scaling(min_replicas=1, max_replicas=1),
    )
    return fast, slow


@contextlib.asynccontextmanager
async def a_short_lived_fleet(root: Path, life_seconds: float) -> AsyncIterator[ShortLived]:
    """Yield the fleet once both gateways answer; nothing of it is left at the end."""
    directory = DataDirectory(root)
    layout, supervisor = await start_fleet(
        directory,
        2,
        "simulated",
        restart_control_plane=True,
        choices=replace(AS_BEFORE, keys=False),
    )
    context = fleet_context(directory, layout)
    try:
        async with (
            AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
            aiohttp.ClientSession() as http,
        ):
            async for _ in until_ready(directory, layout, supervisor, operator, CLOCK):
                pass
            known = {one.name: one for one in gateways_of(read_fleet(directory.fleet))}
            gateways = tuple(known[plane.name] for plane in layout.planes)
            pki = ensure_pki(directory, layout, CLOCK.now())
            fleet = ShortLived(directory, layout, gateways, http, pki, life_seconds)
            for deployment in deployments(layout.planes[0].offer.cloud):
                await operator.apply(deployment)
            await _until_all_answer(fleet)
            yield fleet
    finally:
        await stop_directory(directory, CLOCK)


async def _until_all_answer(fleet: ShortLived) -> None:
    deadline = CLOCK.monotonic() + WAIT_SECONDS_MAX
    statuses: list[int] = []
    while CLOCK.monotonic() < deadline:
        statuses = []
        for gateway in fleet.gateways:
            for model in (SERVED, LONG):
                body = {"model": model, "prompt": "hello", "max_tokens": 1}
                with contextlib.suppress(aiohttp.ClientError):
                    url = f"http://{gateway.http}/v1/completions"
                    async with fleet.http.post(url, json=body) as answer:
                        statuses.append(answer.status)
        if statuses == [200] * 4:
            return
        await CLOCK.sleep(0.2)
    raise AssertionError(f"not everything answers: {statuses}; {fleet.directory.root}")
