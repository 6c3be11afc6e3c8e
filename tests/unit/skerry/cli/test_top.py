"""`skerry top`: rates of what planes counted, quantiles of first bytes, how old values are."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.cli import top
from skerry.cli.fleet_top.drawing import draw
from skerry.cli.fleet_top.frame import (
    SPAN_SECONDS_MAX,
    DeploymentFigures,
    Frame,
    Look,
    Looks,
    quantile,
)
from skerry.cli.fleet_top.looking import add_first_bytes
from skerry.client.rows import DeploymentRow, PlacementRow, PlaneRow
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneState
from skerry.fleet.pool import GatewayAddresses
from tests.builders import a_deployment, an_identity
from tests.unit.skerry.cli.conftest import OperatorApi

BEGAN = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
VERSION = Version(epoch=1, generation=1)


def a_plane(name: str, state: PlaneState = PlaneState.CONNECTED) -> PlaneRow:
    return PlaneRow(
        identity=an_identity(name),
        gateway=GatewayAddresses(http="a:1", grpc="a:1", peer="a:2"),
        state=state,
        reason="",
        since=BEGAN - timedelta(minutes=3),
        desired=VERSION,
        held=VERSION,
        witnesses=(),
        nack="",
    )


def a_placement(plane: str) -> PlacementRow:
    return PlacementRow(
        name=f"chat--{plane}--gpu",
        deployment="chat",
        plane=plane,
        pool=f"{plane}--gpu",
        replicas=2,
        replicas_ready=1,
        cost_per_hour=1.0,
        reason="",
        envelope=None,
    )


def a_look(after: float, requests: dict[str, float], **changed: Any) -> Look:
    """Return a look `after` so many seconds, with what each plane counted."""
    row = DeploymentRow(
        deployment=a_deployment("chat"),
        replicas_wanted=4,
        replicas_placed=4,
        replicas_ready=2,
        cost_per_hour=2.0,
        pending=(),
        etag="1",
    )
    look = Look(
        at=1_000.0 + after,
        time=BEGAN + timedelta(seconds=after),
        planes=tuple(map(a_plane, ("a", "b"))),
        pools=(),
        deployments=(row,),
        placements=tuple(map(a_placement, ("a", "b"))),
        readings={
            ("chat", plane): LoadReading(
                at=0.0,
                requests_total=count,
                prompt_tokens_total=0.0,
                finished_total=count,
                output_tokens_total=10.0 * count,
                in_flight=3.0,
                waiting_requests=1.0,
            )
            for plane, count in requests.items()
        },
        first_bytes=None,
    )
    return replace(look, **changed)


def frame_of(*looks: Look, later: float = 0.0, fault: str = "") -> Frame:
    seen = Looks()
    for look in looks:
        seen.take(look)
    frame = seen.frame(looks[-1].at + later, fault)
    assert frame is not None
    return frame


def chat(frame: Frame) -> DeploymentFigures:
    (one,) = frame.deployments
    return one


def text_of(frame: Frame) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(draw(frame))
    return captured.get()


def test_rates_are_of_all_planes_over_the_span_and_gauges_of_the_last_look() -> None:
    frame = frame_of(a_look(0, {"a": 100, "b": 0}), a_look(10, {"a": 120, "b": 30}))
    one = chat(frame)
    assert (one.requests_per_second, one.tokens_per_second) == (5.0, 50.0)
    assert (one.in_flight, one.waiting) == (6.0, 2.0)
    assert (one.replicas_ready, one.replicas_desired) == (2, 4)
    assert frame.span_seconds == 10.0


def test_of_one_look_no_rate_is_known_and_none_is_made_up() -> None:
    one = chat(frame_of(a_look(0, {"a": 100})))
    assert (one.requests_per_second, one.first_byte_p50_seconds) == (None, None)
    nothing = chat(frame_of(a_look(0, {}), a_look(10, {})))
    assert (nothing.requests_per_second, nothing.in_flight) == (None, None)
    assert "0.0" not in text_of(frame_of(a_look(0, {}), a_look(10, {})))


def test_a_counter_that_began_anew_makes_no_rate_below_nought() -> None:
    looks = (a_look(0, {"a": 100}), a_look(6, {"a": 5}), a_look(12, {"a": 11}))
    assert chat(frame_of(*looks)).requests_per_second == 1.0


def test_what_is_older_than_the_span_counts_no_more() -> None:
    looks = (a_look(0, {"a": 0}), a_look(40, {"a": 9_000}), a_look(50, {"a": 9_010}))
    frame = frame_of(*looks)
    assert frame.span_seconds <= SPAN_SECONDS_MAX
    assert chat(frame).requests_per_second == 1.0


def test_a_plane_that_is_not_heard_is_in_no_rate_and_has_its_age() -> None:
    planes = (a_plane("a"), a_plane("b", PlaneState.SUSPECT))
    looks = [a_look(n, {"a": n, "b": 50 * n}, planes=planes) for n in (0, 10)]
    frame = frame_of(*looks)
    assert chat(frame).requests_per_second == 1.0
    assert chat(frame).stale_planes == ("b",)
    assert [plane.age_seconds for plane in frame.planes] == [None, 190.0]
    text = text_of(frame)
    assert "not heard for 3 min" in text
    assert "without b: not heard" in text


def test_without_a_control_plane_the_last_look_stays_with_its_age_and_the_reason() -> None:
    frame = frame_of(a_look(0, {"a": 1}), later=42.0, fault="connection refused")
    assert frame.age_seconds == 42.0
    text = text_of(frame)
    assert "42 s ago" in text
    assert "no control plane answers: connection refused" in text
    assert "chat" in text


def test_quantiles_are_of_the_answers_between_two_looks() -> None:
    bounds = (0.1, 1.0, float("inf"))
    before = dict(zip(bounds, (50.0, 50.0, 50.0), strict=True))
    after = dict(zip(bounds, (50.0, 150.0, 150.0), strict=True))
    assert quantile(0.5, before, after) == pytest.approx(0.55)
    looks = [
        a_look(n, {"a": n}, first_bytes={"chat": told}) for n, told in ((0, before), (10, after))
    ]
    assert chat(frame_of(*looks)).first_byte_p50_seconds == pytest.approx(0.55)
    assert quantile(0.5, after, after) is None
    assert quantile(0.5, {}, {}) is None


@given(
    grown=st.lists(st.integers(0, 1_000), min_size=4, max_size=4),
    share=st.floats(0.01, 0.99),
)
def test_a_quantile_lies_where_that_many_answers_were(grown: list[int], share: float) -> None:
    bounds = (0.1, 1.0, 10.0, float("inf"))
    after = {bound: float(sum(grown[: n + 1])) for n, bound in enumerate(bounds)}
    found = quantile(share, {}, after)
    if not sum(grown):
        assert found is None
        return
    assert found is not None
    assert 0.0 <= found <= 10.0
    lower = quantile(share / 2, {}, after)
    assert lower is not None
    assert lower <= found + 1e-3


def test_pickers_pages_are_added_up() -> None:
    page = (
        'skerry_picker_first_byte_answers_total{deployment="chat",le="0.1"} 3.0\n'
        'skerry_picker_first_byte_answers_total{deployment="chat",le="+Inf"} 4.0\n'
        'skerry_picker_waiting_requests{deployment="chat"} 9.0\n'
    )
    assert add_first_bytes([page, page]) == {"chat": {0.1: 6.0, float("inf"): 8.0}}


@pytest.mark.integration
def test_once_prints_what_programs_read(
    api: OperatorApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "ONCE_SECONDS", 0.01)
    api.answers["ListPlanes"] = pb.ListPlanesResponse()
    assert api.run("top", "--once", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["planes"], told["deployments"], told["fault"]) == ([], [], "")
    assert api.run("top", "--once") == 0
    assert "as of" in capsys.readouterr().out
