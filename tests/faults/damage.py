"""Files of a plane as a crash, a full disk or a bad hand leaves them."""

import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

Damage = Callable[[bytes], bytes]


def torn(data: bytes) -> bytes:
    """Return the first half."""
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    """Return nothing."""
    return b""


def truncated(data: bytes) -> bytes:
    """Return all but the last bytes."""
    return data[:-3]


def flipped(data: bytes) -> bytes:
    """Return the same with one bit of each 64th byte turned."""
    return bytes(byte ^ 1 if at % 64 == 63 else byte for at, byte in enumerate(data))


KINDS: tuple[Damage, ...] = (torn, empty, truncated, flipped)


def damage(paths: Iterable[Path], kinds: Iterable[Damage] = KINDS) -> int:
    """Put damaged content in the place of each file, by rename as a writer would; return how many.

    The kinds take turns.
    """
    count = 0
    for path, kind in zip(sorted(paths), itertools.cycle(kinds), strict=False):
        beside = path.with_name(f".{path.name}.damaged")
        beside.write_bytes(kind(path.read_bytes()))
        os.replace(beside, path)
        count += 1
    return count


def gateway_files(gateway_dir: Path) -> tuple[Path, ...]:
    """Return the files that a running Envoy watches, without their copies."""
    patterns = ("listeners/*.json", "clusters/*.json", "routes/*.json", "endpoints/*/*.json")
    return tuple(path for pattern in patterns for path in gateway_dir.glob(pattern))
