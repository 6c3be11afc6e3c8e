"""Processes found by a variable of their environment, which all that they start inherits.

A child that takes a session of its own and outlives its parent is in nobody's tree any more, and
may have closed every descriptor that it was given: its environment still names where it belongs.
"""

import os
from collections.abc import Callable, Collection, Mapping

from skerry.plumbing.errors import NotFound
from skerry.plumbing.processes import ProcessRecord, is_alive, record_of

# An environment takes some KiB; what is longer is read up to here.
ENVIRONMENT_BYTES_MAX = 1024 * 1024
# py-setproctitle, which vLLM and SGLang name their processes with, writes over the environment that
# others see unless this is set; titles are cut to the length of the command line then.
KEEPS_ENVIRONMENT = "SPT_NOENV"


def find_marked(variable: str, is_wanted: Callable[[str], bool]) -> Mapping[ProcessRecord, str]:
    """Return the living processes of our pid namespace with a wanted value of the variable.

    Reads the environment of each process of this user, of all for root. Those that may not be read
    are left out, and whoever cleared its environment.
    """
    name, here = f"{variable}=".encode(), _namespace("self")
    found: dict[ProcessRecord, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or not _has(entry, name, is_wanted):
            continue
        # The number may have become another process's between two looks: what was written down
        # is what was read, if it is the same process before and after.
        try:
            record = record_of(int(entry))
        except NotFound:
            continue
        value = _value(entry, name)
        if (
            value is not None
            and is_wanted(value)
            and _namespace(entry) == here
            and is_alive(record)
        ):
            found[record] = value
    return found


def left_behind(variable: str, values: Collection[str]) -> dict[str, tuple[ProcessRecord, ...]]:
    """Return the living processes by the value of their mark, of those values that have any."""
    if not values:
        return {}
    wanted = frozenset(values)
    found: dict[str, tuple[ProcessRecord, ...]] = {}
    for record, value in find_marked(variable, wanted.__contains__).items():
        found[value] = (*found.get(value, ()), record)
    return found


def _has(pid: str, name: bytes, is_wanted: Callable[[str], bool]) -> bool:
    value = _value(pid, name)
    return value is not None and is_wanted(value)


def _value(pid: str, name: bytes) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            text = b"\0" + _read(file.fileno())
    except OSError:  # it ended, or it is another user's
        return None
    begin = text.find(b"\0" + name)
    if begin < 0:
        return None
    begin += 1 + len(name)
    end = text.find(b"\0", begin)
    return os.fsdecode(text[begin : end if end >= 0 else None])


def _read(descriptor: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < ENVIRONMENT_BYTES_MAX and (part := os.read(descriptor, 64 * 1024)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _namespace(pid: str) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None
