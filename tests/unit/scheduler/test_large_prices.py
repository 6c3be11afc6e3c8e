"""Prices prove bounds that hold, and whole replicas at prices come near the exact optimum."""

import itertools

import numpy as np

from benchmarks.placement_instances import generate
from scheduler.nodes import first_fit
from scheduler.prices import Climb, ascend, evaluate_dual, no_prices, rates_of
from scheduler.pricing import QUICK, place_one


def test_bound_rises_from_that_without_prices() -> None:
    instance = generate("10x50", 2)
    wanted = instance.deployments
    wants = wanted.demand, wanted.keep, wanted.spot_max
    plain, *_ = evaluate_dual(instance, rates_of(instance), wants, no_prices(instance))
    climb = Climb(steps=60, reach=1.0, sigma=0.2, fall=7000.0)
    assert ascend(instance, wants, None, climb).bound > plain


def test_one_deployment_is_placed_as_cheaply_as_by_trying_everything() -> None:
    chance = np.random.default_rng(1)
    for _ in range(60):
        price = chance.uniform(1.0, 5.0, 4)
        rate = chance.uniform(1.0, 4.0, 4)
        domain = np.array([0, 0, 1, 2])
        keep = float(chance.choice([0.0, 0.5]))
        demand = float(chance.uniform(2.0, 8.0))
        best = np.inf
        for counts in itertools.product(range(5), repeat=4):
            load = np.bincount(domain, np.array(counts) * rate)
            left = load.sum() - load.max()
            if load.sum() >= demand and left >= keep * demand:
                best = min(best, float(np.array(counts) @ price))
        found = np.zeros(4, np.int64)
        shape = (rate, domain, np.zeros(4, np.int64))
        paid = place_one(price, np.full(4, 4), shape, (demand, keep, 1.0, np.inf), QUICK, found)
        load = np.bincount(domain, found * rate, minlength=3)
        assert load.sum() >= demand * (1.0 - 1e-8)
        assert load.sum() - load.max() >= keep * demand * (1.0 - 1e-8)
        assert best - 1e-6 <= paid <= 1.35 * best


def test_nodes_take_whole_replicas_first_and_tell_what_is_left() -> None:
    accelerators = np.array([16.0, 4.0, 2.0])
    memory = np.array([8.0, 4.0, 6.0])
    count = np.array([1, 2, 3])
    over = np.zeros(3, np.int64)
    missing = first_fit((accelerators, memory, count), np.arange(3), (3, 8.0, 10.0), over)
    assert missing == 3
    assert over.tolist() == [0, 0, 3]
