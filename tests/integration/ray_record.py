"""What a fault under Ray came to, as an entry of benchmarks/results/ray.json.

Always printed; written only where SKERRY_RAY_RESULTS names the file, as `make test-ray` does. An
entry replaces that of the same test.
"""

import json
import os
from pathlib import Path

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.files import write_atomically

RESULTS = "SKERRY_RAY_RESULTS"


def keep(fault: str, **figures: float) -> None:
    """Print what was found, in seconds or counts, and keep it when somebody asked for that."""
    found = {name: round(value, 2) for name, value in figures.items()}
    print(f"\n{fault}: " + ", ".join(f"{name} {value:g}" for name, value in found.items()))
    if not (path := os.environ.get(RESULTS)):
        return
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    entry = {
        "test": test,
        "fault": fault,
        "figures": found,
        "date": SystemClock().now().strftime("%Y-%m-%d"),
    }
    kept = {str(one["test"]): one for one in _read(Path(path))} | {test: entry}
    ordered = [kept[name] for name in sorted(kept)]
    write_atomically(Path(path), json.dumps(ordered, indent=1).encode() + b"\n")


def _read(path: Path) -> list[dict[str, object]]:
    return json.loads(path.read_bytes()) if path.is_file() else []
