"""processes.json: what the supervisor started, by (pid, start time), so that nothing is orphaned.

The next supervisor adopts by it, and `skerry down` ends by it when no supervisor runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.files import write_atomically
from skerry.plumbing.processes import ProcessRecord, is_alive


def write_processes(path: Path, processes: Mapping[PartKey, ProcessRecord]) -> None:
    """Write the processes atomically."""
    entries = [
        {"role": key.role.value, "plane": key.plane, "process": record.to_json()}
        for key, record in processes.items()
    ]
    write_atomically(path, json.dumps(entries, indent=1).encode() + b"\n")


def read_living_processes(path: Path) -> dict[PartKey, ProcessRecord]:
    """Return those of the recorded processes that still live; none when there is no file."""
    try:
        entries = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from None
    found = {
        PartKey(role=Role(entry["role"]), plane=entry["plane"]): ProcessRecord.from_json(
            entry["process"]
        )
        for entry in entries
    }
    return {key: record for key, record in found.items() if is_alive(record)}
