"""What a drill has broken and not put back yet, in drill.json of the data directory.

Written before anything is broken, so that whatever happens to the drill's own process, `guard`
or `skerry drill undo` finds what to put back. Putting back twice does no harm.
"""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.cli.supervisor.control_socket import ask
from skerry.cli.supervisor.layout import DataDirectory
from skerry.plumbing.errors import Corrupt, InvalidInput
from skerry.plumbing.files import write_atomically
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

    The record goes last: whoever is ended in between leaves it to the next one. Raises
    Unavailable while no supervisor runs that could start something.
    """
    done = [
        f"{record.name} (pid {record.pid}) goes on"
        for record in unfinished.paused
        if signal_process(record, signal.SIGCONT)
    ]
    for name in unfinished.to_start:
        reply = await ask(directory.socket, {"verb": "start", "name": name})
        done += [f"{part} is started again" for part in reply["started"]]
    record_path(directory).unlink(missing_ok=True)
    return tuple(done)


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
