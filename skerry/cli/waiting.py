"""Waiting until what was asked for is so: a line for each step, and a limit for all of it."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.plumbing.errors import DeadlineExceeded, Infeasible, NotFound

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.operator import OperatorClient
    from skerry.client.rows import DeploymentRow
    from skerry.plumbing.clock import Clock

LOOK_SECONDS = 0.5


def wait_ready(
    client: "OperatorClient",
    names: Sequence[str],
    seconds_max: float,
    console: "Console",
    clock: "Clock",
) -> None:
    """Return once all of these deployments run as many READY replicas as they want.

    DeadlineExceeded says which do not after that time, and what is pending of them.
    """
    pause = threading.Event()  # never set: nobody else is there to end the wait
    end = clock.monotonic() + seconds_max
    told: dict[str, str] = {}
    while True:
        rows = [_at_its_revision(client.get_deployment(name), client) for name in names]
        for row in rows:
            progress = f"{row.name}: {row.replicas_ready}/{row.replicas_wanted} ready"
            if told.get(row.name) != progress:
                told[row.name] = progress
                console.print(progress)
        missing = [row for row in rows if not is_ready(row)]
        if not missing:
            return
        for row in missing:
            _check_rollout(client, row)
        if clock.monotonic() >= end:
            raise DeadlineExceeded(
                f"not ready after {seconds_max:g} s: {'; '.join(map(_told, missing))}"
            )
        pause.wait(LOOK_SECONDS)


def _at_its_revision(row: "DeploymentRow", client: "OperatorClient") -> "DeploymentRow":
    """Return the row with only those replicas READY that are of the present revision."""
    from skerry.client.operator_calls import Which
    from skerry.fleet.observation import ReplicaState

    number = row.deployment.revision.number
    running = client.list_replicas(Which(passes=f'observed.deployment = "{row.name}"'))
    ready = [
        replica
        for replica in running
        if replica.observed.revision == number and replica.observed.state is ReplicaState.READY
    ]
    return replace(row, replicas_ready=min(len(ready), row.replicas_ready))


def _check_rollout(client: "OperatorClient", row: "DeploymentRow") -> None:
    """Raise Infeasible where the present revision was taken back: it will not come by waiting."""
    from skerry.client.rollouts import sentence_of

    try:
        rollout = client.get_rollout(row.name)
    except NotFound:  # nothing is decided yet
        return
    if rollout.revision == row.deployment.revision.number and rollout.has_failed:
        raise Infeasible(
            f"{row.name}: {sentence_of(rollout)}; apply a revision that works, or"
            f" `skerry rollout resume {row.name}` tries this one again"
        )


def is_ready(row: "DeploymentRow") -> bool:
    """Say whether all replicas that are wanted are READY and nothing is pending."""
    return row.replicas_ready >= row.replicas_wanted and not row.pending


def _told(row: "DeploymentRow") -> str:
    why = f" ({row.pending[0]})" if row.pending else ""
    return f"{row.name} has {row.replicas_ready} of {row.replicas_wanted}{why}"
