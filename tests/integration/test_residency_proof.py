"""Two planes' real gateways, a control plane that is away, and the proof of where requests went."""

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.planes import record_report
from control_plane.store.residency import (
    Taken,
    Told,
    evidence_of,
    keep_residency,
    read_evidence,
)
from control_plane.store.schema import upgrade
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.generation import Version
from skerry.fleet.residency_proof import Proof, prove
from skerry.plumbing.ids import SystemIds
from tests.builders import a_deployment, a_report
from tests.integration.gateway_world import CLOCK, World, a_fleet, eventually
from workload_plane.gateway.served_log import SERVED_LOG
from workload_plane.residency.keeper import LEDGER, ResidencyKeeper, Rules
from workload_plane.residency.served import ServedLog

pytestmark = pytest.mark.integration

ZONES: dict[str, tuple[str, ...]] = {"a": ("de", "eu"), "b": ("fr", "eu")}


@dataclass
class Proving:
    """Both planes' keepers, and the database that they tell once it is there."""

    world: World
    root: Path
    keepers: dict[str, ResidencyKeeper]
    told_zones: dict[str, tuple[str, ...]]

    def begin(self, plane: str) -> None:
        """Start the plane's keeper, as an agent does that comes up."""
        served = self.world.planes[plane]
        self.keepers[plane] = ResidencyKeeper(
            self.root / f"residency-{plane}",
            ServedLog(served.folder, served.topology.listen.admin_port, CLOCK),
            Rules(own=ZONES[plane], desired=lambda: self.desired(plane)),
            CLOCK,
            SystemIds(CLOCK),
        )

    def desired(self, plane: str) -> DesiredState:
        deployment = a_deployment(name="d1")
        policy = replace(deployment.policy, residency_zones=("eu",))
        peers = tuple(
            PeerPlane(plane=n, cloud="c", region="r", peer_address="h:1", residency_zones=zones)
            for n, zones in self.told_zones.items()
            if n != plane
        )
        return DesiredState(
            plane=plane,
            version=Version(epoch=1, generation=7),
            assignments=(Assignment(deployment=replace(deployment, policy=policy)),),
            peers=peers,
        )

    async def turn(self, *planes: str) -> int:
        """Have the planes' logs rolled up, and return the time after it in ms."""
        for plane in planes or ("a", "b"):
            self.keepers[plane].note()
            await self.keepers[plane].turn(self.world.client)
        return int(CLOCK.now().timestamp() * 1000)

    @property
    def told_until(self) -> int:
        """Return until when both planes have recorded."""
        return min(keeper._ledger.newest.to_ms for keeper in self.keepers.values())

    async def tell(self, database: Database, write: WriteContext) -> list[Taken]:
        """Tell the control plane all that it has not, as the link does."""
        taken: list[Taken] = []
        for plane, keeper in self.keepers.items():
            chain, links = await keeper.after("", 0)
            with database.write() as session:
                told = Told(plane=plane, chain=chain, links=links)
                taken += keep_residency(session, write, (told,))
        return taken

    def proof(self, database: Database, since_ms: int, until_ms: int) -> Proof:
        with database.read() as session:
            stored = read_evidence(session, since_ms - 120_000, until_ms + 120_000)
        assert stored is not None
        return prove({"d1": ("eu",)}, evidence_of(stored), since_ms, until_ms)


def a_control_plane(tmp_path: Path) -> tuple[Database, WriteContext]:
    url = f"sqlite:///{tmp_path / 'skerry.db'}"
    upgrade(url)
    database = open_database(url)
    with database.write() as session:
        epoch = take_leadership(session, "test", CLOCK.now())
    write = WriteContext(epoch=epoch, actor="test", now=CLOCK.now() - timedelta(days=1))
    with database.write() as session:
        for plane in ("a", "b"):
            record_report(session, write, a_report(plane))
    return database, write


async def spill(world: World) -> None:
    """Send four requests to `a`: two served there, and two by `b` when its replica is gone."""
    for _ in range(2):
        assert (await world.chat("a"))[1]["engine"] == "a1"
    await world.engines["a1"].kill()
    for _ in range(2):
        assert (await world.chat("a"))[1]["engine"] == "b1"


async def test_what_spilled_while_the_control_plane_was_dead_is_proven(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        proving = Proving(world, tmp_path, {}, ZONES)
        proving.begin("a")
        proving.begin("b")
        since = await proving.turn()
        await spill(world)
        proving.begin("a")  # another agent: the one before died
        await proving.turn()
        until = proving.told_until
        database, write = a_control_plane(tmp_path)
        assert [one.fault for one in await proving.tell(database, write)] == ["", ""]
        proof = proving.proof(database, since, until)
        (d1,) = proof.deployments
        assert (d1.inside, d1.outside, d1.unproved, proof.gaps) == (4, 0, (), ())
        assert proof.is_proven(d1)

        # Told again, as after a lost answer, nothing is counted twice.
        await proving.tell(database, write)
        assert proving.proof(database, since, until) == proof


async def test_what_left_is_named_and_so_is_a_gateway_that_died(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        proving = Proving(world, tmp_path, {}, {"a": ZONES["a"], "b": ("us",)})
        proving.begin("a")
        proving.begin("b")
        since = await proving.turn()
        await spill(world)
        await proving.turn()
        until = proving.told_until
        database, write = a_control_plane(tmp_path)
        await proving.tell(database, write)
        proof = proving.proof(database, since, until)
        (d1,) = proof.deployments
        assert (d1.inside, d1.outside) == (2, 2)
        assert {(left.gateway, left.plane, left.zones) for left in d1.left} == {("a", "b", ("us",))}
        assert proof.gaps == ()

        async def has_run() -> bool:
            status = await world.status("a")
            return status is not None and (status.uptime_seconds or 0) >= 5

        # Envoy tells its age in whole seconds: two starts within some of them are told as one.
        await eventually(has_run)
        a = world.planes["a"]
        await a.kill()
        a.start()

        async def answers() -> bool:
            status = await world.status("a")
            return status is not None and status.live

        await eventually(answers)
        until = await proving.turn("a")
        await proving.tell(database, write)
        whys = {gap.why for gap in proving.proof(database, since, until).gaps if gap.plane == "a"}
        assert any("was started again" in why for why in whys), whys


async def test_a_file_that_was_tampered_with_is_named_and_proves_nothing(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        proving = Proving(world, tmp_path, {}, ZONES)
        proving.begin("a")
        proving.begin("b")
        since = await proving.turn()
        await spill(world)
        until = await proving.turn()
        path = tmp_path / "residency-a" / LEDGER
        lines = path.read_text().splitlines(keepends=True)
        told: dict[str, Any] = json.loads(lines[-1])
        told["content"] = told["content"].replace('"sent","b"', '"sent","a"')
        path.write_text("".join(lines[:-1]) + json.dumps(told) + "\n")
        proving.begin("a")
        await proving.turn("a")
        database, write = a_control_plane(tmp_path)
        await proving.tell(database, write)
        proof = proving.proof(database, since, until)
        (d1,) = proof.deployments
        assert not proof.is_proven(d1)
        assert any("was altered" in gap.why for gap in proof.gaps if gap.plane == "a")
        # What the other gateway took is missing at the one that sent it.
        assert {gap.plane for gap in d1.unproved} == {"a"}


async def test_a_log_that_was_taken_away_is_no_log_without_requests(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        proving = Proving(world, tmp_path, {}, ZONES)
        proving.begin("a")
        await proving.turn("a")
        await world.chat("a")
        (world.planes["a"].folder / SERVED_LOG).unlink()
        await proving.turn("a")
        assert proving.keepers["a"]._ledger.newest.why == "the gateway's log was removed"
