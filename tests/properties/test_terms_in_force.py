"""The terms of pools that are remembered are those that would be worked out anew, at any moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control_plane.store.terms_in_force import TermsInForce
from control_plane.store.values import StoredPool
from skerry.fleet.catalogue import Reservation
from skerry.fleet.cordon import Cordon, Part, Scope
from skerry.fleet.pool import PoolTerms
from tests.builders import a_pool

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("a", "b")
HOURS = st.integers(0, 6)


def _at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


@st.composite
def _prices(draw: st.DrawFn) -> dict[str, tuple[tuple[datetime, float], ...]]:
    told = {}
    for name in NAMES:
        hours = sorted(draw(st.sets(HOURS, max_size=3)))
        if hours:
            told[_pool(name).pool.name] = tuple(
                (_at(hour), float(draw(st.integers(1, 3)))) for hour in hours
            )
    return told


@st.composite
def _reservations(draw: st.DrawFn) -> tuple[Reservation, ...]:
    return tuple(
        Reservation(
            name=f"r{number}",
            pool=_pool(draw(st.sampled_from(NAMES))).pool.name,
            price_per_accelerator_hour=float(number),
            start_time=_at(begins := draw(HOURS)),
            end_time=_at(begins + draw(st.integers(1, 3))),
        )
        for number in range(draw(st.integers(0, 2)))
    )


@st.composite
def _cordons(draw: st.DrawFn) -> tuple[Cordon, ...]:
    return tuple(
        Cordon(
            part=Part(scope=Scope.POOL, name=_pool(name).pool.name),
            actor="ops",
            reason="",
            since=START,
        )
        for name in sorted(draw(st.sets(st.sampled_from(NAMES))))
    )


STEPS = st.lists(
    st.tuples(HOURS, st.none() | _prices(), st.none() | _reservations(), st.none() | _cordons()),
    min_size=2,
    max_size=8,
)


def _pool(name: str) -> StoredPool:
    return StoredPool(pool=a_pool(name=name), etag="")


@given(st.data(), STEPS)
def test_what_is_remembered_is_what_would_be_worked_out(
    data: st.DataObject, steps: list[Any]
) -> None:
    """Whatever moves in between, the clock backwards too."""
    terms, pools = TermsInForce(), tuple(map(_pool, NAMES))
    prices: dict[str, Any] = {}
    reservations: tuple[Reservation, ...] = ()
    cordons: tuple[Cordon, ...] = ()
    for hour, new_prices, new_reservations, new_cordons in steps:
        prices = prices if new_prices is None else new_prices
        reservations = reservations if new_reservations is None else new_reservations
        cordons = cordons if new_cordons is None else new_cordons
        if data.draw(st.booleans()):
            paid = PoolTerms(price_per_accelerator_hour=float(data.draw(st.integers(1, 9))))
            first = replace(pools[0], pool=replace(pools[0].pool, terms=paid))
            pools = (first, *pools[1:])
        asked = (_at(hour), pools, prices, reservations, cordons)
        assert terms.at(*asked) == TermsInForce().at(*asked)


def test_a_pool_of_which_nothing_moved_is_the_same_object() -> None:
    """Else thousands of planes would be worked out anew for one that came back."""
    terms, (first, second) = TermsInForce(), map(_pool, NAMES)
    prices = {one.pool.name: ((START, 2.0),) for one in (first, second)}
    before = terms.at(_at(1), (first, second), prices, (), ())
    moved = replace(second, etag="2")
    after = terms.at(_at(2), (first, moved), prices, (), ())
    assert after[0] is before[0]
    assert after[1] is not before[1]
