"""Whole replicas over planes: the same as one by one, in a time that thousands of planes allow."""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.autoscaling.splitting import PlaneShare, held, nearest
from tests.properties.examples import examples

SHARES = st.lists(
    st.builds(
        lambda floor, room, running, price: (floor, floor + room, running, float(price)),
        st.integers(0, 3),
        st.integers(0, 6),
        st.integers(0, 9),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=8,
).map(
    lambda found: [
        PlaneShare(
            plane=f"p{number}",
            floor=floor,
            ceiling=ceiling,
            running=running,
            engine=None,
            price_per_hour=price,
        )
        for number, (floor, ceiling, running, price) in enumerate(found)
    ]
)


def one_by_one(
    total: int, shares: Sequence[PlaneShare], ideal: Mapping[str, int]
) -> dict[str, int]:
    """Look through all planes for each replica: where most lack, or most are too many."""
    found = {one.plane: held(one, one.running) for one in shares}
    while (left := total - sum(found.values())) != 0:
        way = 1 if left > 0 else -1
        room = [one for one in shares if one.floor <= found[one.plane] + way <= one.ceiling]
        if not room:
            break
        best = max(
            room,
            key=lambda one: (
                way * (ideal[one.plane] - found[one.plane]),
                -way * one.price_per_hour,
                one.plane,
            ),
        )
        found[best.plane] += way
    return found


@settings(max_examples=examples(200))
@given(shares=SHARES, total=st.integers(0, 60), wanted=st.lists(st.integers(0, 9), min_size=8))
def test_the_nearest_is_what_one_replica_after_another_comes_to(
    shares: list[PlaneShare], total: int, wanted: list[int]
) -> None:
    ideal = {share.plane: wanted[number] for number, share in enumerate(shares)}
    assert nearest(total, shares, ideal) == one_by_one(total, shares, ideal)
