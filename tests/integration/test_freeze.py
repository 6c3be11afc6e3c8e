"""While moves are frozen: what is placed on silent planes stays, what operators order goes on."""

from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.store import deployments
from control_plane.store.changes import list_changes
from control_plane.store.planes import declare_lost
from control_plane.store.rollouts import list_rollouts
from skerry.fleet.deployment import Deployment, PlacementPolicy
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import PeerVerdict
from skerry.fleet.rollout import Stage
from tests.builders import a_deployment
from tests.integration.loop_world import Fleet
from tests.integration.test_operations import NOBODY

pytestmark = pytest.mark.integration

SETTLED = 10
FROZEN = 20  # turns, far beyond every lease and grace
ONLY_AWS = PlacementPolicy(clouds=("aws",))


async def apply(fleet: Fleet, deployment: Deployment) -> None:
    await fleet.database.run(deployments.apply_deployment, fleet.write(), deployment, "", "")


async def a_frozen_fleet(directory: Path) -> Fleet:
    """`demo` on all three planes, `side` on `aws` alone; then all but `aws` fall silent at once."""
    fleet = Fleet(directory)
    await fleet.apply_demo()
    await apply(fleet, a_deployment("side", replicas=2, policy=ONLY_AWS))
    await fleet.turns(20)
    assert await fleet.placed_on() == {
        "demo": {"aws--cpu": 1, "fra--cpu": 2, "gcp--cpu": 1},
        "side": {"aws--cpu": 2},
    }
    for plane in ("fra", "gcp"):
        fleet.lose(plane)
    await fleet.turns(FROZEN)
    assert "fell silent at once" in fleet.loop.held_back[0]
    return fleet


async def silent_placements(fleet: Fleet) -> dict[tuple[str, str], int]:
    """Return what is placed on the planes that are silent."""
    found = await fleet.placed_on()
    return {
        (name, pool): count
        for name, held in found.items()
        for pool, count in held.items()
        if pool != "aws--cpu"
    }


def told(fleet: Fleet, deployment: str) -> int:
    """Return how many replicas `aws` was told to run."""
    _, state = fleet.pushed["aws"]
    return sum(
        envelope.target
        for assignment in state.assignments
        if assignment.deployment.name == deployment
        for envelope in assignment.envelopes
    )


async def test_a_new_deployment_is_placed_and_pushed_where_planes_are_heard(tmp_path: Path) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    await apply(fleet, a_deployment("new", replicas=1))
    await fleet.turns(3)
    assert (await fleet.placed_on())["new"] == {"aws--cpu": 1}
    assert told(fleet, "new") == 1
    assert [one.deployment for one in fleet.running["aws"]].count("new") == 1
    assert await silent_placements(fleet) == {("demo", "fra--cpu"): 2, ("demo", "gcp--cpu"): 1}


async def test_a_smaller_deployment_is_told_where_planes_are_heard_and_stays_where_not(
    tmp_path: Path,
) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    await apply(fleet, a_deployment("side", replicas=1, policy=ONLY_AWS))
    await apply(fleet, a_deployment("demo", replicas=1))
    await fleet.turns(5)
    assert told(fleet, "side") == 1
    assert await silent_placements(fleet) == {("demo", "fra--cpu"): 2, ("demo", "gcp--cpu"): 1}
    reasons = {p.pool: p.reason for p in fleet.loop.decided.plan.placements}  # type: ignore[union-attr]
    assert "its plane is silent while moves are frozen" in reasons["fra--cpu"]


async def test_a_deployment_that_is_deleted_ends_where_planes_are_heard(tmp_path: Path) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    await fleet.database.run(deployments.mark_deleting, fleet.write(), "side", "", "")
    await fleet.turns(3)
    assert [one.deployment for one in fleet.running["aws"]].count("side") == 0
    assert await silent_placements(fleet) == {("demo", "fra--cpu"): 2, ("demo", "gcp--cpu"): 1}


async def test_a_rollout_goes_on_where_planes_are_heard(tmp_path: Path) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    side = a_deployment("side", replicas=2, policy=ONLY_AWS)
    other = EngineSpec(name=EngineName.SIMULATED, options=(("seed", "2"),))
    await apply(fleet, replace(side, revision=replace(side.revision, number=2, engine=other)))
    await fleet.turns(5)
    rollouts = {one.deployment: one for one in await fleet.database.run_read(list_rollouts)}
    assert rollouts["side"].revision == 2
    assert rollouts["side"].stage in (Stage.CANARY, Stage.SOAKING, Stage.ROLLING)
    assert rollouts["side"].plane == "aws"
    assert await silent_placements(fleet) == {("demo", "fra--cpu"): 2, ("demo", "gcp--cpu"): 1}


async def test_nothing_moves_for_a_freeze_and_nothing_for_its_end(tmp_path: Path) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    placed = await fleet.placed_on()
    fleet.alive |= {"fra", "gcp"}
    fleet.sees.clear()
    await fleet.turns(SETTLED)
    assert fleet.loop.held_back == ()
    assert await fleet.placed_on() == placed
    changes = await fleet.database.run_read(list_changes, 0, 1_000)
    kinds = [change.kind for change in changes]
    assert kinds.count("fleet.frozen") == kinds.count("fleet.thawed") == 1
    assert kinds.count("plane.lost") == 0


async def test_a_start_during_a_freeze_waits_for_the_silent_and_then_moves_nothing(
    tmp_path: Path,
) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    placed = await fleet.placed_on()
    fleet.start()
    await apply(fleet, a_deployment("new", replicas=1))
    await fleet.turns(5)
    assert not fleet.loop.has_decided
    assert await fleet.placed_on() == placed
    await fleet.turns(FROZEN)
    assert await fleet.placed_on() == {**placed, "new": {"aws--cpu": 1}}


async def test_what_an_operator_gives_up_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    fleet = await a_frozen_fleet(tmp_path)
    fleet.sees["fra"] = PeerVerdict.UNKNOWN
    await fleet.database.run(declare_lost, fleet.write(), ("gcp",), NOBODY)
    await fleet.turns(3)
    assert (await fleet.placed_on())["demo"] == {"aws--cpu": 2, "fra--cpu": 2}
