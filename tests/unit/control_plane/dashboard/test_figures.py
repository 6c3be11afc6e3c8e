"""Sums, bars and steps that pages draw, and the changes that a form tells."""

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.dashboard.capacity import ceilings_by_pool, sum_fleet
from control_plane.dashboard.drawing import FOLDER, STATIC, bar, money, span, static_digests, steps
from control_plane.dashboard.scaling_plot import plot_scaling
from control_plane.dashboard.survival import read_changes
from control_plane.dashboard.visit import NAMES_AT_ONCE, any_of, quoted
from skerry.client.questions import Lose, ScaleDemand, ScalePrice
from skerry.client.rows import DeploymentRow, PlacementRow, PlaneRow, PoolRow
from skerry.fleet.autoscaling.scaled import FleetRecord
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.generation import NEVER
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import CapacityClass, GatewayAddresses, PoolTerms
from skerry.plumbing.errors import InvalidInput
from tests.builders import T0, a_deployment, a_shape, an_identity

PAGE_BYTES_MAX = 300_000  # all that a browser fetches for a page


def a_plane_row(name: str, state: PlaneState = PlaneState.CONNECTED) -> PlaneRow:
    return PlaneRow(
        identity=an_identity(name),
        gateway=GatewayAddresses(http="", grpc="", peer=""),
        state=state,
        reason="",
        since=T0,
        desired=NEVER,
        held=NEVER,
        witnesses=(),
        nack="",
    )


def a_pool_row(plane: str, placed: int, price: float | None = 2.0) -> PoolRow:
    terms = PoolTerms(capacity_class=CapacityClass.SPOT, price_per_accelerator_hour=price)
    return PoolRow(
        name=f"{plane}--cpu",
        plane=plane,
        shape=a_shape(),
        terms=terms,
        accelerators_placed=placed,
        etag="",
    )


def a_placement_row(plane: str, ceiling: int) -> PlacementRow:
    pool = f"{plane}--cpu"
    return PlacementRow(
        name=f"demo--{pool}",
        deployment="demo",
        plane=plane,
        pool=pool,
        replicas=1,
        replicas_ready=1,
        cost_per_hour=2.0,
        reason="",
        envelope=Envelope(deployment="demo", pool=pool, floor=0, target=1, ceiling=ceiling),
    )


def a_deployment_row() -> DeploymentRow:
    return DeploymentRow(
        deployment=a_deployment(),
        replicas_wanted=1,
        replicas_placed=1,
        replicas_ready=1,
        cost_per_hour=2.0,
        pending=(),
        etag="",
    )


def test_the_fleet_is_summed_by_kind_place_and_plane() -> None:
    planes = (a_plane_row("aws-x"), a_plane_row("gcp-y", PlaneState.LOST))
    pools = (a_pool_row("aws-x", 1), a_pool_row("gcp-y", 2, price=None))
    ceilings = ceilings_by_pool((a_placement_row("aws-x", 3),), (a_deployment_row(),), pools)
    summary = sum_fleet(planes, pools, ceilings)
    ((kind, whole),) = summary.kinds
    assert (kind, whole.accelerators, whole.placed, whole.granted) == ("cpu", 8, 3, 3)
    assert (whole.unpriced, whole.price_text, whole.dollars_per_hour) == (4, "$2.00", 2.0)
    assert summary.states == {PlaneState.CONNECTED: 1, PlaneState.LOST: 1}
    assert [cloud for cloud, _ in summary.clouds] == ["aws", "gcp"]
    aws = summary.planes["aws-x"]
    assert aws.parts == (("used", 1), ("headroom", 2), ("free", 1))


def test_ceilings_that_were_not_summed_are_not_zero() -> None:
    summary = sum_fleet((a_plane_row("aws-x"),), (a_pool_row("aws-x", 1),), None)
    assert summary.whole.granted is None


def test_a_bar_never_leaves_its_ground() -> None:
    assert bar((("used", 3), ("free", 1)), 4) == (("used", 0.0, 75.0), ("free", 75.0, 25.0))
    assert bar((("used", 9), ("free", 1)), 4) == (("used", 0.0, 100.0),)
    assert bar((("used", 0),), 0) == ()


def test_steps_hold_each_value_until_the_next() -> None:
    box = (0.0, 100.0, 0.0, 10.0)
    assert steps(((0.0, 0.5), (0.5, 1.0)), box) == "M0.0 5.0H50.0V0.0H100.0"
    assert steps((), box) == ""


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (900, "15 min"), (3_660, "1 h 1 min")],
)
def test_spans_are_told_in_two_units(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_a_price_that_is_not_told_is_no_zero() -> None:
    assert (money(None), money(0.0), money(1234.5)) == ("–", "$0.00", "$1,234.50")


def a_decision(minute: int, total: int) -> FleetRecord:
    return FleetRecord(
        deployment="demo",
        decided_at=datetime(2030, 1, 1, tzinfo=UTC) + timedelta(minutes=minute),
        sentence="",
        because="need",
        running=total,
        total=total,
        wanted=total,
        unmet=0,
        demand=total,
        floor=0,
    )


def test_decisions_are_drawn_in_time_whatever_their_order() -> None:
    plot = plot_scaling((a_decision(2, 4), a_decision(0, 2)), most=4)
    assert plot is not None
    assert plot.begins < plot.ends
    assert {name for name, _ in plot.paths} == {"wanted", "total", "running"}
    assert plot_scaling((a_decision(0, 2),), most=4) is None


def test_a_form_tells_changes() -> None:
    told = dict.fromkeys(
        ("lose", "lose_name", "price", "price_pool", "demand", "demand_deployment"), ""
    )
    asked = {**told, "lose": "cloud", "lose_name": "aws", "price": "2", "demand": "1.5"}
    asked["demand_deployment"] = "demo"
    assert read_changes(asked) == (
        Lose(domain=FailureDomain.CLOUD, name="aws"),
        ScalePrice(factor=2.0, pool=None),
        ScaleDemand(factor=1.5, deployment="demo"),
    )
    for wrong in (told, {**told, "price": "nan"}, {**told, "demand": "x"}):
        with pytest.raises(InvalidInput):
            read_changes(wrong)


def test_names_cannot_leave_their_quotes_in_a_filter() -> None:
    assert quoted('a" OR name:"b') == '"a\\" OR name:\\"b"'
    names = [f"d{number}" for number in range(NAMES_AT_ONCE + 1)]
    assert [part.count("=") for part in any_of("deployment", names)] == [NAMES_AT_ONCE, 1]


def test_all_that_a_page_fetches_is_small_and_has_its_licence() -> None:
    fetched = [STATIC / name for name in static_digests() if not name.endswith(".txt")]
    assert sum(path.stat().st_size for path in fetched) < PAGE_BYTES_MAX / 2
    assert {"htmx-LICENSE.txt", "htmx-sse-LICENSE.txt"} <= set(static_digests())


def test_no_page_names_another_host_or_writes_script_or_style_into_itself() -> None:
    for path in (FOLDER / "templates").glob("*.html"):
        text = path.read_text()
        assert "http://" not in text
        assert "https://" not in text
        assert "|safe" not in text.replace(" ", "")
        assert " style=" not in text
        assert " onclick=" not in text
        assert "<script>" not in text
