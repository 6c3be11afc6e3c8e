"""The nearest gateway that lives, and when another one takes over."""

from skerry.client.distance import (
    COOL_DOWN_SECONDS,
    COOL_DOWN_SECONDS_MAX,
    Memory,
    nearest,
    order_from,
    order_gateways,
)
from skerry.client.gateways import Gateway

A, B, C = (Gateway(name=n, http=f"{n}:1", grpc=f"{n}:1") for n in ("a", "b", "c"))
ALL = (A, B, C)


def names(gateways: tuple[Gateway, ...]) -> str:
    return "".join(gateway.name for gateway in gateways)


def test_without_measurements_the_order_given_counts() -> None:
    assert nearest(ALL, {}, "", 0.0) == "a"
    assert names(order_gateways(ALL, {}, "a", 0.0)) == "abc"


def test_the_nearest_is_first_and_the_unmeasured_last() -> None:
    memories = {"c": Memory(seconds=0.01), "b": Memory(seconds=0.05)}
    assert nearest(ALL, memories, "", 0.0) == "c"
    assert names(order_gateways(ALL, memories, "c", 0.0)) == "cba"


def test_another_takes_over_only_when_it_is_clearly_nearer() -> None:
    held = {"a": Memory(seconds=0.040), "b": Memory(seconds=0.036)}
    assert nearest(ALL, held, "a", 0.0) == "a"  # 10 per cent
    assert nearest(ALL, {**held, "b": Memory(seconds=0.020)}, "a", 0.0) == "b"
    loopback = {"a": Memory(seconds=0.0008), "b": Memory(seconds=0.0004)}
    assert nearest(ALL, loopback, "a", 0.0) == "a"  # half, but of nothing


def test_one_that_cools_down_is_nobodys_first_choice_but_comes() -> None:
    memories = {"a": Memory(seconds=0.001).failed(10.0), "b": Memory(seconds=0.1)}
    assert nearest(ALL, memories, "a", 10.0) == "b"
    assert names(order_gateways(ALL, memories, "b", 10.0)) == "bca"
    assert nearest(ALL, memories, "b", 10.0 + COOL_DOWN_SECONDS) == "a"


def test_a_gateway_that_stays_dead_is_tried_ever_less_often_up_to_a_bound() -> None:
    memory, pauses = Memory(), []
    for _ in range(8):
        memory = memory.failed(0.0)
        pauses.append(memory.cooling_until)
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert pauses[-1] == COOL_DOWN_SECONDS_MAX
    assert memory.lived() == Memory()


def test_a_measurement_moves_the_mean_and_ends_a_cool_down() -> None:
    memory = Memory(seconds=0.1).failed(0.0).answered(0.2)
    assert memory.seconds is not None
    assert 0.1 < memory.seconds < 0.2
    assert (memory.failures, memory.cooling_until) == (0, 0.0)


def test_from_a_preferred_one_round_with_the_cooling_last() -> None:
    memories = {"b": Memory(cooling_until=20.0), "a": Memory(cooling_until=5.0)}
    assert names(order_from(ALL, 1, memories, 10.0)) == "cab"
