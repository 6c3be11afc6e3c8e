"""Which base models give way for another: PURE, least recently used first, all or nothing.

The cache asks before each download. Models share files: what is freed by one that goes is only
what no other one has.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One thing on the disk that may go as a whole: a base model, or the beginning of one."""

    key: str
    files: frozenset[int]  # by inode: files of one content are one
    used_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is needed, and what there is: `bytes_max` None bounds by the disk alone.

    `reserved_bytes` are still to come of downloads under way.
    """

    need_bytes: int
    free_bytes: int
    free_bytes_min: int
    bytes_max: int | None = None
    reserved_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """What goes, by key; `short_bytes` above 0: not even all of it would do, so nothing goes."""

    keys: tuple[str, ...] = ()
    short_bytes: int = 0


def plan_eviction(
    kept: Sequence[Kept], sizes: Mapping[int, int], protected: frozenset[str], room: Room
) -> Eviction:
    """Return the least recently used of what is not protected, just enough of it for the need."""
    # Files that belong to nothing are garbage and count as used until they are swept.
    used = sum(sizes.values())
    over = room.need_bytes + room.reserved_bytes + room.free_bytes_min - room.free_bytes
    if room.bytes_max is not None:
        over = max(over, used + room.need_bytes + room.reserved_bytes - room.bytes_max)
    oldest_first = sorted(kept, key=lambda one: (one.used_at, one.key))
    chosen: list[Kept] = []
    for one in oldest_first:
        if _freed(chosen, kept, sizes) >= over:
            break
        if one.key not in protected:
            chosen.append(one)
    short = over - _freed(chosen, kept, sizes)
    if short > 0:
        return Eviction(short_bytes=short)
    for one in reversed(list(chosen)):
        # What shares its files with others may have freed nothing by going.
        others = [other for other in chosen if other is not one]
        if _freed(others, kept, sizes) >= over:
            chosen = others
    return Eviction(keys=tuple(one.key for one in chosen))


def _freed(gone: Sequence[Kept], kept: Sequence[Kept], sizes: Mapping[int, int]) -> int:
    users = Counter(file for one in kept for file in one.files)
    users.subtract(file for one in gone for file in one.files)
    touched = frozenset(file for one in gone for file in one.files)
    return sum(sizes[file] for file in touched if not users[file])
