"""The global loop: the sum's need, where its replicas go, and what has no room."""

from datetime import UTC, datetime

from skerry.fleet.autoscaling.factors import FloorSchedule, ScalingFactors
from skerry.fleet.autoscaling.fleetwide import FleetScaler, PlaneShare, largest_remainder, split
from skerry.fleet.autoscaling.work import Engine
from tests.unit.fleet.autoscaling.test_local import COEFFICIENTS, a_reading

ENGINE = Engine(coefficients=COEFFICIENTS, batch=50.0)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FACTORS = ScalingFactors(max_replicas=30, target_utilization=0.5)


def a_share(plane: str, *, running: int = 1, price: float = 10.0, ceiling: int = 20) -> PlaneShare:
    """Return a plane with a floor of one."""
    return PlaneShare(
        plane=plane,
        running=running,
        floor=1,
        ceiling=ceiling,
        engine=ENGINE,
        price_per_hour=price,
    )


def heard(scaler: FleetScaler, rates: dict[str, float], seconds: int = 60) -> FleetScaler:
    """Let it hear planes with constant rates."""
    for at in range(0, seconds + 1, 5):
        for plane, rate in rates.items():
            scaler.observe(plane, a_reading(float(at), rate))
    return scaler


def test_the_sum_is_split_by_load() -> None:
    scaler = heard(FleetScaler(FACTORS), {"a": 20.0, "b": 10.0, "c": 0.0})
    decision = scaler.decide(60.0, NOON, [a_share("a"), a_share("b"), a_share("c")])
    # 4.5 busy replicas at one half are nine; the idle plane's floor is of the nine.
    assert decision.total == 9
    assert decision.targets == {"a": 5, "b": 3, "c": 1}


def test_spare_replicas_go_where_they_are_cheapest() -> None:
    shares = [a_share("dear", price=20.0), a_share("cheap", price=5.0, ceiling=4)]
    assert split(10, shares, {"dear": 1.5, "cheap": 1.5}, 0.5) == {"dear": 6, "cheap": 4}
    assert split(8, shares, {"dear": 1.5, "cheap": 1.5}, 0.75) == {"dear": 4, "cheap": 4}


def test_what_no_envelope_has_room_for_is_told() -> None:
    scaler = heard(FleetScaler(FACTORS), {"a": 60.0})
    decision = scaler.decide(60.0, NOON, [a_share("a", ceiling=5)])
    assert decision.targets == {"a": 5}
    assert decision.unmet == 13
    assert "13 more have no room" in decision.describe()


def test_a_schedule_is_a_floor_of_the_sum() -> None:
    noon = FloorSchedule(cron="0 12 * * *", seconds=600.0, min_replicas=12)
    scaler = heard(
        FleetScaler(ScalingFactors(max_replicas=30, schedules=(noon,))), {"a": 1.0, "b": 1.0}
    )
    assert scaler.decide(60.0, NOON, [a_share("a"), a_share("b")]).total == 12


def test_a_plane_whose_costs_are_unknown_keeps_what_it_has() -> None:
    scaler = heard(FleetScaler(FACTORS), {"a": 10.0, "b": 10.0})
    blind = PlaneShare(plane="b", running=4, floor=0, ceiling=9, engine=None)
    assert scaler.decide(60.0, NOON, [a_share("a"), blind]).targets == {"a": 3, "b": 4}


def test_equal_parts_go_to_the_cheaper_first() -> None:
    shares = [a_share("a", price=2.0), a_share("b", price=1.0)]
    assert largest_remainder(5, shares, {"a": 1.0, "b": 1.0}) == {"a": 2, "b": 3}


def test_what_a_plane_started_by_itself_is_not_taken_back_within_the_delay() -> None:
    scaler = heard(FleetScaler(FACTORS), {"a": 10.0}, seconds=600)
    assert scaler.decide(600.0, NOON, [a_share("a", running=3)]).total == 3
    for at in range(605, 661, 5):
        scaler.observe("a", a_reading(float(at), 10.0))
    assert scaler.decide(660.0, NOON, [a_share("a", running=5)]).total == 5
    for at in range(665, 1_001, 5):
        scaler.observe("a", a_reading(float(at), 10.0))
        decision = scaler.decide(float(at), NOON, [a_share("a", running=5)])
        assert decision.total == (5 if at <= 960 else 4)


def test_what_was_just_moved_to_a_plane_is_not_taken_back_before_it_can_report_it() -> None:
    scaler, rates = FleetScaler(FACTORS), {"a": 2.9, "b": 7.0}
    shares = [a_share("a", running=2), a_share("b", running=1)]
    targets: dict[str, int] = {}
    for at in range(0, 601, 5):
        for plane, rate in rates.items():
            scaler.observe(plane, a_reading(float(at), rate))
        if at >= 60 and at % 30 == 0:
            targets = dict(scaler.decide(float(at), NOON, shares).targets)
        if targets.get("b") == 2:
            break
    assert targets == {"a": 2, "b": 2}, "the new one comes first"
    again = scaler.decide(at + 0.2, NOON, shares)  # others' places moved: it is asked anew
    assert again.targets == targets
    assert scaler.decide(at + 1.0, NOON, [a_share("a", running=2), a_share("b", ceiling=1)]).targets
