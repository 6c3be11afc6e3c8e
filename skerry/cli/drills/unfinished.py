"""What a drill has broken and not put back yet, in drill.json of the data directory.

Written before anything is broken, so that whatever happens to the drill's own process, `guard`
or `skerry drill undo` finds what to put back. Putting back twice does no harm. Beside it is the
lock that lets one drill at a time hurt a fleet.
"""

import contextlib
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.cli.supervisor.control_socket import ask
from skerry.cli.supervisor.layout import DataDirectory, read_layout
from skerry.plumbing.errors import (
    Conflict,
    Corrupt,
    Infeasible,
    InvalidInput,
    SkerryError,
    Unavailable,
)
from skerry.plumbing.files import lock_file, write_atomically
from skerry.plumbing.processes import ProcessRecord, is_alive, signal_process

_FORMAT = 1
NAMES_MAX = 64  # more parts than a fleet of one host has


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A drill under way: who runs it, which processes it stopped, which parts to start again."""

    drill: str
    runner: ProcessRecord
    paused: tuple[ProcessRecord, ...] = ()
    to_start: tuple[str, ...] = ()


def record_path(directory: DataDirectory) -> Path:
    """Return where the record of a fleet's unfinished drill is."""
    return directory.root / "drill.json"


def lock_path(directory: DataDirectory) -> Path:
    """Return the file that a drill under way holds locked; the kernel frees it with its holder."""
    return directory.root / "drill.lock"


@contextlib.contextmanager
def hold_fleet(directory: DataDirectory) -> Iterator[None]:
    """Let no other drill begin for the block.

    Raises Conflict with the one that runs, or that is not put back.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock_file(lock_path(directory)))
        except Conflict as held:
            left = read_unfinished(directory)
            runs = f"drill {left.drill}" if left and is_under_way(left) else "another drill"
            holder = held.hints.get("pid") or "unknown"
            raise Conflict(
                f"{runs} is under way on this fleet as process {holder}; wait for its end, or end"
                " it with Ctrl-C there"
            ) from None
        if (left := read_unfinished(directory)) is not None:
            raise Conflict(f"drill {left.drill} is not put back; `skerry drill undo` does that")
        yield


def write_unfinished(directory: DataDirectory, unfinished: Unfinished) -> None:
    """Write down what is about to be broken."""
    values = {
        "format": _FORMAT,
        "drill": unfinished.drill,
        "runner": unfinished.runner.to_json(),
        "paused": [record.to_json() for record in unfinished.paused],
        "to_start": list(unfinished.to_start),
    }
    path = record_path(directory)
    write_atomically(path, json.dumps(values, indent=1).encode() + b"\n", mode=0o600)


def read_unfinished(directory: DataDirectory) -> Unfinished | None:
    """Return what a drill left unfinished, None without one; Corrupt for a damaged record."""
    path = record_path(directory)
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _corrupt(path, error) from None
    try:
        return _unfinished(values)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidInput) as error:
        raise _corrupt(path, error) from None


def is_under_way(unfinished: Unfinished) -> bool:
    """Say whether the process that runs the drill still lives."""
    return is_alive(unfinished.runner)


async def put_back(directory: DataDirectory, unfinished: Unfinished) -> tuple[str, ...]:
    """Let go on what was stopped and start what was ended; return what had to be done.

    The record goes last, and only if it is still this one: whoever is ended in between leaves it
    to the next. Raises Unavailable while no supervisor runs that could start something, and
    Infeasible, with all else put back, when it refuses to.
    """
    done = [
        f"{record.name} (pid {record.pid}) goes on"
        for record in unfinished.paused
        if signal_process(record, signal.SIGCONT)
    ]
    refused = []
    for name in unfinished.to_start:
        try:
            reply = await ask(directory.socket, {"verb": "start", "name": name})
        except Unavailable:
            raise
        except SkerryError as error:
            if _is_gone(directory, name):
                done.append(f"{name} is no part of the fleet any more")
            else:
                refused.append(f"{name}: {error.message}")
        else:
            done += [f"{part} is started again" for part in reply["started"]]
    if refused:
        told = "; ".join(refused)
        raise Infeasible(
            f"not all is put back, the supervisor refused {told}; `skerry drill undo` tries again"
        )
    if read_unfinished(directory) == unfinished:
        record_path(directory).unlink(missing_ok=True)
    return tuple(done)


def _is_gone(directory: DataDirectory, name: str) -> bool:
    """Say whether the fleet was made anew without that part."""
    try:
        layout = read_layout(directory)
    except SkerryError:
        return False
    planes = {plane.name for plane in layout.planes}
    return name not in planes | {one.name for one in layout.control_planes}


def _unfinished(values: Mapping[str, Any]) -> Unfinished:
    if values["format"] != _FORMAT:
        raise ValueError(f"format {values['format']!r} is of another release")
    names = tuple(str(name) for name in values["to_start"])
    if len(names) > NAMES_MAX or len(values["paused"]) > NAMES_MAX:
        raise ValueError("more parts than a fleet has")
    return Unfinished(
        drill=str(values["drill"]),
        runner=ProcessRecord.from_json(values["runner"]),
        paused=tuple(ProcessRecord.from_json(one) for one in values["paused"]),
        to_start=names,
    )


def _corrupt(path: Path, why: object) -> Corrupt:
    return Corrupt(
        f"{path} cannot be read: {why}; let processes go on with `kill -CONT PID`, start parts"
        " with `skerry up --only NAME`, and remove the file"
    )
