"""A fleet of real processes: a poison revision harms one replica, a good one reaches all.

`skerry up` with two planes and the simulated engine, steered by the command line.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.main import run
from skerry.plumbing.clock import SystemClock

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
CLOCK = SystemClock()
COMMAND_SECONDS_MAX = 120
LOOK_SECONDS = 0.5
DEPLOYMENT = """
apiVersion: skerry/v1
kind: Deployment
metadata:
  name: chat
spec:
  baseModel: {{uri: "simulated://tiny", servedName: tiny}}
  engine:
    name: simulated
    options: {{{options}}}
  resources:
    - {{accelerator: cpu, count: 1}}
  scaling: {{minReplicas: 3, maxReplicas: 3}}
  placement:
    spread: {{domain: plane, domainsMin: 2}}
  rollout: {{soak: 3s}}
"""


class Fleet:
    """A fleet of this host, by its command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = str(directory / "fleet/config.yaml")

    def skerry(self, *arguments: str) -> str:
        """Run a command that must end well; return what it printed."""
        result = subprocess.run(
            [sys.executable, "-m", "skerry.cli.main", *arguments],
            cwd=ROOT,
            env={**os.environ, "SKERRY_CONFIG": self.config},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert result.returncode == 0, f"{arguments}: {result.stdout}\n{result.stderr}"
        return result.stdout

    def apply(self, **options: str) -> None:
        """Apply `chat` with these options of the engine, and wait for nothing."""
        told = ", ".join(f'{name}: "{value}"' for name, value in options.items())
        file = self.directory / "chat.yaml"
        file.write_text(DEPLOYMENT.format(options=told), encoding="utf-8")
        self.skerry("apply", "-f", str(file))

    def get(self, kind: str) -> Any:
        """Return what there is of a kind; in this process, for its looks are many."""
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            assert run(["--config", self.config, "get", kind, "-o", "json"]) == 0
        return json.loads(told.getvalue())

    def ready(self, revision: int) -> dict[str, set[str]]:
        """Return the names of the READY replicas of a revision, by plane."""
        found: dict[str, set[str]] = {}
        for row in self.get("replicas"):
            if (row["observed"]["state"], row["observed"]["revision"]) == ("ready", revision):
                found.setdefault(row["plane"], set()).add(row["observed"]["name"])
        return found

    def state(self) -> dict[str, Any]:
        """Return the rollout of `chat`."""
        (row,) = self.get("rollouts") or ({"state": "none"},)
        return dict(row)

    def until(self, holds: Callable[[], bool], seconds_max: float = 90.0) -> None:
        """Look until that holds."""
        pause = threading.Event()  # never set
        end = CLOCK.monotonic() + seconds_max
        while not holds():
            assert CLOCK.monotonic() < end, (self.state(), self.get("replicas"))
            pause.wait(LOOK_SECONDS)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two planes on the simulated engine."""
    made = Fleet(tmp_path)
    where = ("--data-dir", str(tmp_path / "fleet"))
    try:
        made.skerry("up", "--planes", "2", "--engine", "simulated", *where, "--detach")
        yield made
    finally:
        made.skerry("down", *where)


def test_a_poison_revision_harms_one_replica_and_the_next_good_one_reaches_every_plane(
    fleet: Fleet,
) -> None:
    fleet.apply()
    fleet.until(lambda: sum(map(len, fleet.ready(1).values())) == 3)
    served = fleet.ready(1)
    assert len(served) == 2

    fleet.apply(**{"exit-at-start-code": "3"})
    harmed: set[tuple[str, str]] = set()

    def is_taken_back() -> bool:
        rows = [row for row in fleet.get("replicas") if row["observed"]["revision"] == 2]
        harmed.update((row["plane"], row["observed"]["pool"]) for row in rows)
        assert len(rows) <= 1
        return bool(fleet.state()["state"] == "rolled_back")

    fleet.until(is_taken_back)
    assert fleet.ready(1) == served, "nothing that served was touched"
    # A look takes a second and may miss how it dies; where it died, the rollout says.
    (tried,) = [plane for plane in served if plane in fleet.state()["reason"]]
    assert {plane for plane, _ in harmed} <= {tried}
    assert "revision 1 serves" in fleet.skerry("explain", "rollout", "chat")
    assert "rollout.rolled-back" in fleet.skerry("get", "changes")

    fleet.apply(**{"ttft-seconds": "0.03"})
    fleet.until(lambda: sum(map(len, fleet.ready(3).values())) == 3)
    fleet.until(lambda: fleet.state()["state"] == "complete")
    fleet.until(lambda: fleet.ready(1) == {})
    assert {plane: len(names) for plane, names in fleet.ready(3).items()} == {
        plane: len(names) for plane, names in served.items()
    }
