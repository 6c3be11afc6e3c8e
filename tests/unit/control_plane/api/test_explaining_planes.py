"""Why a plane is judged as it is, over a real server: evidence of now, history, what is missing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from control_plane.reconcile.failover import judge, weigh
from control_plane.reconcile.snapshot import Removed, Seen, Snapshot
from control_plane.reconcile.testimony import LONG_BEFORE
from control_plane.store.planes import record_report, set_condition
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.client import verdicts
from skerry.client.operator_rows import plane_row
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneCondition, PlaneState
from tests.builders import (
    T0,
    a_deployment,
    a_plane_view,
    a_replica,
    a_report,
    a_snapshot,
    a_view,
)
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PLANES = "projects/default/planes"
GONE = replace(a_view("fra", PeerVerdict.UNREACHABLE), since=T0)
TOLD = replace(GONE, served_until_seconds=None)  # of no use to people


def silent(name: str) -> Any:
    return a_plane_view(name, connected=False, silent_seconds=9.0)


def a_fleet(*witnesses: PeerView) -> Snapshot:
    """`fra` fell silent, and each of `aws` and `gcp` says so much of it."""
    told = zip(("aws", "gcp"), witnesses, strict=False)
    views = (a_plane_view(name, report=a_report(name, peers=(view,))) for name, view in told)
    return a_snapshot(silent("fra"), *views)


@pytest.fixture
async def asked(operator: Operator) -> Operator:
    for name in ("fra", "aws", "gcp"):
        await operator.database.run(record_report, operator.write(), a_report(name))
        up = PlaneCondition(state=PlaneState.CONNECTED, since=T0)
        await operator.database.run(set_condition, operator.write(), name, up, None)
    return operator


def seen(operator: Operator, snapshot: Snapshot) -> None:
    operator.reconciler.seen = Seen(snapshot=snapshot, conditions=judge(snapshot))


async def explained(operator: Operator, name: str = "fra") -> verdicts.PlaneExplanation:
    request = pb.ExplainPlaneRequest(name=f"{PLANES}/{name}")
    return verdicts.explanation(await operator.stub.ExplainPlane(request))


async def test_the_evidence_of_now_comes_back_whole(asked: Operator) -> None:
    snapshot = a_fleet(GONE, replace(GONE, verdict=PeerVerdict.UNKNOWN))
    seen(asked, snapshot)
    found = await explained(asked)
    expected = weigh(snapshot)["fra"][1]
    assert found.verdict == replace(expected, judged_at=snapshot.now)
    assert found.until_lost == (
        "1 more of 2 witnesses would have to see it fail that saw it serve until it fell silent",
    )


async def test_a_witness_that_does_not_count_says_why(asked: Operator) -> None:
    seen(asked, a_fleet(replace(a_view("fra", PeerVerdict.UNREACHABLE, 3600.0), since=T0), GONE))
    found = await explained(asked)
    assert found.verdict is not None
    assert [view.discounted for view in found.verdict.witnesses] == [LONG_BEFORE, ""]
    assert found.until_lost[1:] == (
        f"aws does not count: {LONG_BEFORE}",
        "or an operator decides: `skerry failover plane/fra`",
    )


async def test_the_history_is_told_newest_first(asked: Operator) -> None:
    snapshot = a_fleet(GONE, GONE)
    seen(asked, snapshot)
    before = PlaneState.CONNECTED
    for number, state in enumerate((PlaneState.SUSPECT, PlaneState.LOST)):
        condition, verdict = weigh(snapshot)["fra"]
        told = replace(verdict, state=state, judged_at=T0 + timedelta(seconds=number))
        condition = replace(condition, state=state)
        write = asked.write()
        await asked.database.run(set_condition, write, "fra", condition, before, told)
        before = state
    found = await explained(asked)
    states = [verdict.state for verdict in found.history]
    assert states == [PlaneState.LOST, PlaneState.SUSPECT]
    assert found.history[0].witnesses == (replace(TOLD, plane="aws"), replace(TOLD, plane="gcp"))


async def test_before_the_first_judgement_there_is_no_evidence(asked: Operator) -> None:
    asked.reconciler.seen = None
    found = await explained(asked)
    assert found.verdict is None
    assert found.until_lost == ()


async def test_a_plane_that_settles_says_what_is_held_back(asked: Operator) -> None:
    view = a_plane_view("fra")
    assert view.condition is not None
    settles = replace(view, condition=replace(view.condition, returned_at=T0))
    seen(asked, a_snapshot(settles, a_plane_view("aws")))
    asked.reconciler.held_back = ("20 of 20 moves of this minute are made",)
    first, second = (await explained(asked)).held_back
    assert first.startswith("20 of 20 moves")
    assert "nothing moves there before it was heard for 60 s" in second


async def test_what_is_left_of_a_removed_deployment_is_told(asked: Operator) -> None:
    seen(asked, a_fleet(GONE, GONE))
    assert (await explained(asked)).ending == ()
    guest = a_replica("guest", "fra--cpu")
    view = a_plane_view("fra", report=a_report("fra", replicas=(guest,)))
    held = DesiredState(plane="fra", version=Version(epoch=1, generation=7))
    removed = Removed(deployment=a_deployment("guest"), last_revision=1, removed_at=T0)
    seen(asked, a_snapshot(view, desired=(held,), removed=(removed,)))
    (told,) = (await explained(asked)).ending
    assert told.startswith("it still runs 1 of guest, which was removed at 2026-01-01 00:00:00 UTC")


async def test_a_freeze_stands_above_the_list_of_planes(asked: Operator) -> None:
    seen(asked, a_fleet(GONE, GONE))
    assert (
        await asked.stub.ListPlanes(pb.ListPlanesRequest(parent="projects/default"))
    ).freeze == ""
    seen(asked, a_snapshot(silent("fra"), silent("gcp"), a_plane_view("aws")))
    call = verdicts.get_freeze("default")
    told = call.read(await asked.stub.ListPlanes(call.request))
    assert told.startswith("2 of 3 planes fell silent at once")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (f"{PLANES}/nope", grpc.StatusCode.NOT_FOUND),
        ("fra", grpc.StatusCode.INVALID_ARGUMENT),
        ("", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_explained_is_refused(
    asked: Operator, name: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asked.stub.ExplainPlane(pb.ExplainPlaneRequest(name=name))
    assert refused.value.code() is code


async def test_a_plane_that_joined_and_is_not_judged_yet_is_listed(operator: Operator) -> None:
    """Its client refused the whole list for the second until the next look at the fleet."""
    await operator.database.run(record_report, operator.write(), a_report("fra"))
    told = await operator.stub.ListPlanes(pb.ListPlanesRequest(parent="projects/default"))
    (row,) = (plane_row(message) for message in told.planes)
    assert row.state is PlaneState.SUSPECT
    assert "judged" in row.reason
