"""`--wait` ends when all is ready, tells progress, and says what is missing when time is over."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.console import Console

from skerry.cli.waiting import wait_ready
from skerry.client.rollouts import RolloutRow
from skerry.client.rows import ReplicaRow
from skerry.fleet.deployment import Deployment
from skerry.plumbing.errors import DeadlineExceeded, Infeasible, NotFound
from tests.builders import T0, a_deployment, a_replica
from tests.fakes.clock import FakeClock


@dataclass
class _Row:
    name: str
    replicas_ready: int
    replicas_wanted: int = 2
    pending: tuple[str, ...] = ()
    deployment: Deployment = field(default_factory=a_deployment)
    of_the_revision_before: int = 0


@dataclass
class _Client:
    """Answers with the next row each time it is asked; time passes with every question."""

    clock: FakeClock
    rows: list[_Row]
    asked: int = field(default=0)
    row: _Row = field(default_factory=lambda: _Row("demo", 0))
    rollout: RolloutRow | None = None

    def get_rollout(self, name: str) -> RolloutRow:
        if self.rollout is None:
            raise NotFound("nothing is decided yet")
        return self.rollout

    def get_deployment(self, name: str) -> Any:
        self.clock.advance(1.0)
        self.row = self.rows[min(self.asked, len(self.rows) - 1)]
        self.asked += 1
        return self.row

    def list_replicas(self, which: Any) -> Any:
        assert which.passes == 'observed.deployment = "demo"'
        old = self.row.of_the_revision_before
        return tuple(
            ReplicaRow(
                plane="x",
                observed=a_replica(name=f"r{n}", revision=0 if n < old else 1),
                report_age_seconds=0.0,
            )
            for n in range(self.row.replicas_ready)
        )


def waited(rows: list[_Row], seconds: float) -> list[str]:
    clock, console = FakeClock(), Console(record=True, width=200)
    client: Any = _Client(clock=clock, rows=rows)
    wait_ready(client, ["demo"], seconds, console, clock)
    return console.export_text().splitlines()


def test_each_step_is_told_once_and_ready_is_the_end() -> None:
    rows = [_Row("demo", 0), _Row("demo", 0), _Row("demo", 2)]
    assert waited(rows, 60.0) == ["demo: 0/2 ready", "demo: 2/2 ready"]


def test_what_is_missing_is_told_when_time_is_over() -> None:
    with pytest.raises(DeadlineExceeded, match=r"demo has 1 of 2 \(no room\)"):
        waited([_Row("demo", 1, pending=("no room",))], 0.5)


def test_what_is_pending_is_not_ready() -> None:
    with pytest.raises(DeadlineExceeded):
        waited([_Row("demo", 2, pending=("1 replicas: no room",))], 0.5)


def test_replicas_of_the_revision_before_are_not_what_is_waited_for() -> None:
    rows = [_Row("demo", 2, of_the_revision_before=2), _Row("demo", 2, of_the_revision_before=0)]
    assert waited(rows, 60.0) == ["demo: 0/2 ready", "demo: 2/2 ready"]


def test_a_revision_that_was_taken_back_is_not_waited_for() -> None:
    clock, console = FakeClock(), Console(record=True, width=200)
    row = RolloutRow(
        name="demo",
        revision=1,
        stable_revision=7,
        state="rolled_back",
        stage="rolled_back",
        since=T0,
        reason="its first replica fails on aws",
        plane="",
        pool="",
        planes_done=(),
        broken_revisions=(1,),
    )
    client: Any = _Client(clock=clock, rows=[_Row("demo", 0)], rollout=row)
    with pytest.raises(Infeasible, match="revision 7 serves: its first replica fails on aws"):
        wait_ready(client, ["demo"], 60.0, console, clock)
