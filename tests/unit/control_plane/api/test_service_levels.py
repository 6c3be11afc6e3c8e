"""Service levels over the operator API of a real server: planes' answers added up, with an age."""

from typing import Any

import grpc
import pytest

from control_plane.api.service_levels import DEPLOYMENTS_MAX
from control_plane.store.deployments import apply_deployment
from control_plane.store.placements import Decision, list_placements
from control_plane.store.plans import Proposal, put_in_force
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.client import service_levels
from skerry.client.operator_calls import EVERY, Which
from skerry.client.service_levels import ServiceLevelRow
from skerry.fleet.answers import FIRST_TOKEN_SECONDS, RecentAnswers
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.placement import Placement
from tests.builders import a_deployment
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration


def answers(judged: float, good: float, place: int) -> RecentAnswers:
    counts = [0.0] * (len(FIRST_TOKEN_SECONDS) + 1)
    counts[place] = judged
    return RecentAnswers(seconds=300.0, judged=judged, good=good, first_tokens=tuple(counts))


@pytest.fixture
async def served(fleet: Operator) -> Operator:
    """`demo` on two planes, `idle` on one."""
    for name in ("demo", "idle"):
        await fleet.database.run(apply_deployment, fleet.write(), a_deployment(name), "", "")
    decision = Decision(cost_per_hour=1.0, solver="exact", optimal=True, solve_seconds=0.5)
    placements = tuple(
        Placement(deployment=name, pool=f"{plane}--cpu", count=1)
        for name, plane in (("demo", "gcp-x"), ("demo", "onprem-fra"), ("idle", "gcp-x"))
    )
    proposal = Proposal(decision=decision, placements=placements, summary="placed")

    def put(session: Any) -> None:
        put_in_force(session, fleet.write(), proposal, list_placements(session), "inputs", None)

    await fleet.database.run(put)
    return fleet


async def levels(
    operator: Operator, *names: str, which: Which = EVERY
) -> tuple[ServiceLevelRow, ...]:
    call = service_levels.list_service_levels("default", "", which, names)
    rows: Any = call.read(await operator.operations.ListServiceLevels(call.request))
    return tuple(rows.rows)


async def test_answers_of_the_planes_where_it_is_placed_add_up(served: Operator) -> None:
    served.live.served = {
        ("demo", "gcp-x"): (answers(30.0, 30.0, 2), 1.0),
        ("demo", "onprem-fra"): (answers(10.0, 0.0, 5), 20.0),
        ("demo", "elsewhere"): (answers(99.0, 0.0, 9), 1.0),
    }
    demo, idle = await levels(served)
    assert (demo.name, demo.planes, demo.silent_planes) == ("demo", ("gcp-x", "onprem-fra"), ())
    assert demo.attainment == 0.75
    assert demo.first_token is not None
    assert 0.05 < demo.first_token.p50_seconds < 0.1
    assert 0.5 < demo.first_token.p99_seconds < 1.0
    assert demo.interval is None
    assert demo.heard_at is not None
    assert (served.clock.now() - demo.heard_at).total_seconds() == pytest.approx(20.0, abs=1.0)
    assert (idle.answers, idle.heard_at, idle.silent_planes) == (None, None, ("gcp-x",))


async def test_a_plane_not_heard_for_a_minute_is_left_out_and_named(served: Operator) -> None:
    served.live.served = {
        ("demo", "gcp-x"): (answers(30.0, 30.0, 2), 1.0),
        ("demo", "onprem-fra"): (answers(10.0, 0.0, 5), 600.0),
    }
    (demo,) = await levels(served, "demo")
    assert (demo.planes, demo.silent_planes) == (("gcp-x",), ("onprem-fra",))
    assert demo.attainment == 1.0


async def test_who_is_heard_and_idle_is_not_silent_and_an_old_word_is_not_shown(
    served: Operator,
) -> None:
    served.live.served = {("demo", "onprem-fra"): (answers(10.0, 5.0, 5), 600.0)}
    served.live.counted = {"gcp-x": LoadReport()}
    (demo,) = await levels(served, "demo")
    assert (demo.answers, demo.planes, demo.silent_planes) == (None, (), ("onprem-fra",))


async def test_where_nobody_is_heard_the_last_words_stay_with_their_age(served: Operator) -> None:
    served.live.served = {("demo", "onprem-fra"): (answers(10.0, 5.0, 5), 600.0)}
    (demo,) = await levels(served, "demo", "nobody")
    assert (demo.planes, demo.attainment) == (("onprem-fra",), 0.5)
    assert demo.heard_at is not None
    assert (served.clock.now() - demo.heard_at).total_seconds() == pytest.approx(600.0, abs=1.0)


async def test_they_are_filtered_and_too_many_names_are_refused(served: Operator) -> None:
    served.live.served = {("demo", "gcp-x"): (answers(30.0, 30.0, 9), 1.0)}
    slow = Which(passes="first_token.p99_seconds > 5")
    assert [row.name for row in await levels(served, which=slow)] == ["demo"]
    request = pb.ListServiceLevelsRequest(
        parent="projects/default", deployments=["x"] * (DEPLOYMENTS_MAX + 1)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.operations.ListServiceLevels(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
