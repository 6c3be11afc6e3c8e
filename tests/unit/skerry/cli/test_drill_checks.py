"""Drills: whom they hurt, and on which fleets they are refused."""

from dataclasses import replace

import pytest

from skerry.cli.drills.catalogue import (
    DRILLS,
    FleetFacts,
    Supervised,
    Target,
    choose_target,
    drill_named,
    reasons_against,
)
from skerry.client.questions import LossRow, SurvivorRow
from skerry.client.rows import DeploymentRow, PlaneRow
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.generation import NEVER
from skerry.fleet.observation import PlaneState
from skerry.fleet.pool import GatewayAddresses
from skerry.plumbing.errors import NotFound
from tests.builders import a_deployment, an_identity

NAMES = ("a", "b", "c")


def a_plane(name: str, state: PlaneState = PlaneState.CONNECTED) -> PlaneRow:
    return PlaneRow(
        identity=an_identity(name),
        gateway=GatewayAddresses(http="h:1", grpc="h:1", peer="h:2"),
        state=state,
        reason="no heartbeat for 4 s" if state is not PlaneState.CONNECTED else "",
        since=None,
        desired=NEVER,
        held=NEVER,
        witnesses=(),
        nack="",
    )


def a_row(ready: int = 3) -> DeploymentRow:
    return DeploymentRow(
        deployment=a_deployment(),
        replicas_wanted=3,
        replicas_placed=3,
        replicas_ready=ready,
        cost_per_hour=1.0,
        pending=(),
        etag="e",
    )


def a_loss(domain: FailureDomain, name: str, **fields: object) -> LossRow:
    survivor = SurvivorRow(
        deployment="demo", wanted=3.0, left=2.0, promised=0.0, shortfall=0.0, unmet_after=0
    )
    survivor = replace(survivor, **fields)  # type: ignore[arg-type]
    return LossRow(
        domain=domain, name=name, holds=True, survivors=(survivor,), shed=(), solved=True
    )


def the_facts(names: tuple[str, ...] = NAMES, **fields: object) -> FleetFacts:
    """Return a fleet in which all is well, `b` with two replicas."""
    counts = {"b": 2}
    facts = FleetFacts(
        planes=tuple(a_plane(name) for name in names),
        deployments=(a_row(),),
        losses=tuple(a_loss(FailureDomain.PLANE, name) for name in names),
        supervised=tuple(
            Supervised(
                name=name,
                cloud="aws",
                region="r1" if name in "ab" else "r2",
                replicas=tuple(f"{name}-{n}" for n in range(counts.get(name, 1))),
            )
            for name in names
        ),
        control_planes=("control-plane",),
    )
    return replace(facts, **fields)  # type: ignore[arg-type]


def refused(drill: str, facts: FleetFacts, plane: str = "") -> tuple[str, ...]:
    one = drill_named(drill)
    return reasons_against(one, choose_target(one, facts, plane), facts)


@pytest.mark.parametrize("drill", [one.name for one in DRILLS if one.name != "region-lost"])
def test_nothing_speaks_against_any_drill_on_a_fleet_that_is_well(drill: str) -> None:
    assert refused(drill, the_facts()) == ()


def test_the_plane_with_the_most_replicas_is_hurt_unless_another_is_named() -> None:
    drill, facts = drill_named("plane-killed"), the_facts()
    assert choose_target(drill, facts) == Target(planes=("b",))
    assert choose_target(drill, facts, "c") == Target(planes=("c",))
    with pytest.raises(NotFound, match="there are a, b, c"):
        choose_target(drill, facts, "d")


def test_a_region_is_all_planes_of_it() -> None:
    target = choose_target(drill_named("region-lost"), the_facts(), "a")
    assert target == Target(planes=("a", "b"))


def test_an_engine_is_one_replicas_and_control_planes_are_all() -> None:
    facts = the_facts()
    assert choose_target(drill_named("engine-killed"), facts).replica == "b-0"
    off = choose_target(drill_named("control-plane-off"), facts)
    assert off == Target(control_planes=("control-plane",))


def test_a_fleet_that_is_hurt_already_is_not_hurt_more() -> None:
    silent = the_facts(planes=(a_plane("a", PlaneState.SUSPECT), a_plane("b"), a_plane("c")))
    assert refused("agent-killed", silent) == ("plane a is suspect already: no heartbeat for 4 s",)
    short = the_facts(deployments=(a_row(ready=2),))
    assert refused("agent-killed", short) == ("deployment demo has only 2 of 3 replicas ready",)
    assert refused("agent-killed", the_facts(deployments=())) != ()


def test_a_part_that_does_not_run_is_named() -> None:
    facts = the_facts()
    first = replace(facts.supervised[0], missing=("picker",))
    hurt = replace(facts, supervised=(first, *facts.supervised[1:]))
    assert refused("gateway-killed", hurt) == ("plane a lacks its picker",)


@pytest.mark.parametrize("drill", ["plane-killed", "plane-partitioned"])
def test_a_plane_without_which_nothing_would_serve_is_left_alone(drill: str) -> None:
    facts = the_facts(losses=(a_loss(FailureDomain.PLANE, "b", left=0.0),))
    assert refused(drill, facts) == ("without plane b nothing of demo would be left to serve",)


def test_a_plane_whose_replicas_find_no_other_place_is_not_killed() -> None:
    facts = the_facts(losses=(a_loss(FailureDomain.PLANE, "b", unmet_after=1),))
    assert refused("plane-killed", facts) == (
        "without plane b 1 replicas of demo would find no place",
    )
    assert refused("plane-partitioned", facts) == ()


def test_of_two_planes_none_is_killed_since_nobody_could_witness_it() -> None:
    assert len(refused("plane-killed", the_facts(("a", "b")))) == 1


def test_a_region_with_most_planes_is_not_lost_on_purpose() -> None:
    found = refused("region-lost", the_facts(), "a")
    assert any("freeze" in reason for reason in found)


def test_a_single_replica_and_a_single_gateway_have_nobody_to_stand_in() -> None:
    assert refused("gateway-killed", the_facts(("a",))) != ()
    one = replace(a_row(), replicas_wanted=1, replicas_ready=1)
    assert refused("engine-killed", the_facts(deployments=(one,))) == (
        "deployment demo has no second replica to serve meanwhile",
    )


def test_an_unknown_drill_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="control-plane-off, leader-paused"):
        drill_named("earthquake")
