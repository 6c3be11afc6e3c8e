"""Whole replicas of one deployment at given prices: every degree of care keeps what is asked."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from scheduler.compiled import Floats, Ints
from scheduler.exchange import exchange
from scheduler.pricing import CAREFUL, QUICK, THOROUGH, Care, place_one

CASES = 120
CARES = pytest.mark.parametrize("care", [QUICK, CAREFUL, THOROUGH], ids=("quick", "careful", "all"))


class One(NamedTuple):
    """Prices, room and (throughput, domain, spot) by column; (demand, keep, spot_max, replicas)."""

    price: Floats
    room: Ints
    shape: tuple[Floats, Ints, Ints]
    want: tuple[float, float, float, float]


def random_ones(seed: int, columns: int, room_max: int) -> Iterator[One]:
    chance = np.random.default_rng(seed)
    for _ in range(CASES):
        kinds = chance.uniform(0.5, 4.0, 3)
        throughput = kinds[chance.integers(0, 3, columns)]
        spot = (chance.random(columns) < 0.3).astype(np.int64)
        price = throughput * chance.uniform(1.0, 3.0, columns) * np.where(spot == 1, 0.4, 1.0)
        yield One(
            price=price,
            room=chance.integers(0, room_max + 1, columns),
            shape=(throughput, chance.integers(0, 4, columns), spot),
            want=(
                float(chance.uniform(1.0, 10.0)),
                float(chance.choice((0.0, 0.5, 0.67, 0.9))),
                float(chance.choice((0.0, 0.2, 0.5, 1.0))),
                float(chance.choice((6.0, np.inf))),
            ),
        )


def serves(one: One, counts: Ints) -> bool:
    """Say whether the counts are what was asked, from the words of it."""
    throughput, domain, spot = one.shape
    demand, keep, spot_max, most = one.want
    amount = counts * throughput
    load = np.bincount(domain, amount, minlength=4)
    dust = 1e-7 * (1.0 + demand)
    return bool(
        (counts >= 0).all()
        and (counts <= one.room).all()
        and counts.sum() <= most
        and load.sum() >= demand - dust
        and load.sum() - load.max() >= keep * demand - dust
        and (amount * spot).sum() <= spot_max * load.sum() + dust
    )


def placed(one: One, care: Care) -> tuple[float, Ints]:
    counts = np.zeros(len(one.price), np.int64)
    return place_one(one.price, one.room, one.shape, one.want, care, counts), counts


@CARES
def test_what_is_placed_serves_the_demand_and_its_price_is_told(care: Care) -> None:
    found = 0
    for one in random_ones(1, columns=12, room_max=4):
        paid, counts = placed(one, care)
        if paid == np.inf:
            assert not counts.any()
            continue
        found += 1
        assert serves(one, counts)
        assert paid == pytest.approx(float(counts @ one.price))
    assert found > CASES / 3


def test_more_care_never_costs_more() -> None:
    dearer = 0
    for one in random_ones(2, columns=16, room_max=4):
        quick, careful, thorough = (placed(one, care)[0] for care in (QUICK, CAREFUL, THOROUGH))
        assert thorough <= quick + 1e-9
        assert thorough <= careful + 1e-9
        dearer += quick > thorough + 1e-9
    assert dearer  # else the care is for nothing


@CARES
def test_it_comes_near_the_best_of_all_there_are(care: Care) -> None:
    excess, missed = [], 0  # missed: fills of a heuristic that found no way though there is one
    for one in random_ones(3, columns=6, room_max=2):
        best = least_of_all(one)
        paid, _ = placed(one, care)
        assert paid >= best - 1e-9
        if paid < np.inf:
            excess.append(paid / best - 1.0)
        missed += best < np.inf == paid
    assert np.mean(excess) < 0.002
    assert missed <= 0.1 * len(excess)


def least_of_all(one: One) -> float:
    every = itertools.product(*(range(most + 1) for most in one.room))
    tried = (np.array(counts) for counts in every)
    return min((float(c @ one.price) for c in tried if serves(one, c)), default=np.inf)


def test_exchanges_never_raise_the_price_nor_break_what_held() -> None:
    cheaper = 0
    for one in random_ones(4, columns=10, room_max=5):
        counts = one.room.copy()
        if not serves(one, counts):
            continue
        order = np.argsort(one.price / one.shape[0])
        before = float(counts @ one.price)
        exchange(counts, (order, one.price, one.room), one.shape, one.want, 4)
        assert serves(one, counts)
        assert float(counts @ one.price) <= before
        cheaper += float(counts @ one.price) < before
    assert cheaper


def test_without_columns_and_with_one_domain_for_a_promise_there_is_no_answer() -> None:
    none = np.zeros(0)
    nowhere = np.zeros(0, np.int64)
    want = (1.0, 0.0, 1.0, np.inf)
    assert place_one(none, nowhere, (none, nowhere, nowhere), want, QUICK, nowhere) == np.inf
    one = One(
        price=np.ones(2),
        room=np.array([9, 9]),
        shape=(np.ones(2), np.zeros(2, np.int64), np.zeros(2, np.int64)),
        want=(2.0, 0.5, 1.0, np.inf),
    )
    assert placed(one, CAREFUL)[0] == np.inf
    assert placed(one._replace(want=want), CAREFUL)[0] == 1.0
