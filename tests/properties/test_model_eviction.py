"""What eviction never does, whatever lies on the disk."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.examples import examples
from workload_plane.models.eviction import Kept, Room, plan_eviction


@st.composite
def disks(draw: st.DrawFn) -> tuple[list[Kept], dict[int, int], frozenset[str], Room]:
    sizes = draw(st.dictionaries(st.integers(1, 12), st.integers(0, 50), max_size=12))
    kept = [
        Kept(
            key=f"k{index}",
            files=frozenset(draw(st.sets(st.sampled_from(sorted(sizes)), max_size=6)))
            if sizes
            else frozenset(),
            used_at=float(draw(st.integers(0, 5))),
        )
        for index in range(draw(st.integers(0, 7)))
    ]
    protected = frozenset(one.key for one in kept if draw(st.booleans()))
    room = Room(
        need_bytes=draw(st.integers(0, 200)),
        free_bytes=draw(st.integers(0, 300)),
        free_bytes_min=draw(st.integers(0, 50)),
        bytes_max=draw(st.none() | st.integers(1, 400)),
        reserved_bytes=draw(st.integers(0, 50)),
    )
    return kept, sizes, protected, room


def after(
    kept: list[Kept], sizes: dict[int, int], room: Room, gone: tuple[str, ...]
) -> tuple[int, int]:
    """Return the bytes that remain used, and those that are free, once these are gone."""
    remaining = {file for one in kept if one.key not in gone for file in one.files}
    touched = {file for one in kept if one.key in gone for file in one.files} - remaining
    freed = sum(sizes[file] for file in touched)
    return sum(sizes.values()) - freed, room.free_bytes + freed


def fits(kept: list[Kept], sizes: dict[int, int], room: Room, gone: tuple[str, ...]) -> bool:
    used, free = after(kept, sizes, room, gone)
    coming = room.need_bytes + room.reserved_bytes
    return free - coming >= room.free_bytes_min and (
        room.bytes_max is None or used + coming <= room.bytes_max
    )


@settings(max_examples=examples(1_000), deadline=None)
@given(disks())
def test_what_is_in_use_stays_and_either_it_fits_or_nothing_goes(
    disk: tuple[list[Kept], dict[int, int], frozenset[str], Room],
) -> None:
    kept, sizes, protected, room = disk
    decided = plan_eviction(kept, sizes, protected, room)
    assert not protected.intersection(decided.keys)
    assert len(set(decided.keys)) == len(decided.keys)
    everything = tuple(one.key for one in kept if one.key not in protected)
    if decided.short_bytes:
        assert decided.keys == ()
        assert not fits(kept, sizes, room, everything)
    else:
        assert fits(kept, sizes, room, decided.keys)


@settings(max_examples=examples(1_000), deadline=None)
@given(disks())
def test_nothing_goes_without_need_and_the_same_disk_decides_the_same(
    disk: tuple[list[Kept], dict[int, int], frozenset[str], Room],
) -> None:
    kept, sizes, protected, room = disk
    decided = plan_eviction(kept, sizes, protected, room)
    for key in decided.keys:
        others = tuple(other for other in decided.keys if other != key)
        assert not fits(kept, sizes, room, others), f"{key} went for nothing"
    assert plan_eviction(list(reversed(kept)), sizes, protected, room) == decided


@settings(max_examples=examples(1_000), deadline=None)
@given(disks())
def test_of_models_that_share_nothing_the_older_ones_go_first(
    disk: tuple[list[Kept], dict[int, int], frozenset[str], Room],
) -> None:
    _, sizes, _, room = disk
    kept = [
        Kept(key=f"k{file}", files=frozenset({file}), used_at=float(file))
        for file in sizes
        if sizes[file]
    ]
    decided = plan_eviction(kept, sizes, frozenset(), room)
    newest = max((one.used_at for one in kept if one.key in decided.keys), default=0.0)
    older = tuple(one.key for one in kept if one.used_at < newest)
    assert not decided.keys or not fits(kept, sizes, room, older)
