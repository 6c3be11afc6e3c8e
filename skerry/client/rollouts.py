"""How far revisions are rolled out, and steering that: calls and rows.

`operator_methods` makes the clients' methods of it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.client.operator_calls import (
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
    page_fields,
)
from skerry.fleet.names import full_name

ACTIONS = {
    "pause": pb.SteerRolloutRequest.ACTION_PAUSE,
    "resume": pb.SteerRolloutRequest.ACTION_RESUME,
    "undo": pb.SteerRolloutRequest.ACTION_UNDO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """How far a deployment's newest revision is; `stable_revision` 0: none served before it."""

    name: str  # of the deployment
    revision: int
    stable_revision: int
    state: str
    stage: str
    since: datetime
    reason: str
    plane: str
    pool: str
    planes_done: tuple[str, ...]
    broken_revisions: tuple[int, ...]

    @property
    def has_failed(self) -> bool:
        """Say whether it does not get any further without an operator or another revision."""
        return self.state in ("rolled_back", "broken")


def list_rollouts(project: str, token: str, which: Which) -> Call[Page[RolloutRow]]:
    """Return the call for a page of rollouts."""
    request = pb.ListRolloutsRequest(**page_fields(project, token), **which.fields())
    return page_call("ListRollouts", request, "rollouts", rollout_row)


def get_rollout(project: str, deployment: str) -> Call[RolloutRow]:
    """Return the call for the rollout of one deployment."""
    request = pb.GetRolloutRequest(name=_name(project, deployment))
    return Call(method="GetRollout", request=request, read=rollout_row)


def steer_rollout(project: str, deployment: str, action: str, request_id: str) -> Call[RolloutRow]:
    """Return the call that pauses, resumes or undoes a rollout."""
    request = pb.SteerRolloutRequest(
        name=_name(project, deployment), action=ACTIONS[action], request_id=request_id
    )
    return Call(
        method="SteerRollout", request=request, read=rollout_row, seconds_max=WRITE_SECONDS_MAX
    )


def rollout_row(message: Any) -> RolloutRow:
    """Return the row of a rollout's message."""
    return RolloutRow(
        name=message.deployment,
        revision=message.revision,
        stable_revision=message.stable_revision,
        state=message.state,
        stage=message.stage,
        since=message.since.ToDatetime(UTC),
        reason=message.reason,
        plane=message.plane,
        pool=message.pool,
        planes_done=tuple(message.planes_done),
        broken_revisions=tuple(message.broken_revisions),
    )


def sentence_of(row: RolloutRow) -> str:
    """Return in one sentence where the rollout stands and what it waits for."""
    # A newer control plane may have stages that this release knows no sentence for.
    told = _SENTENCES.get(row.stage, "revision {new} is at stage {stage}").format(
        stage=row.stage or "unknown",
        new=row.revision,
        old=row.stable_revision,
        plane=row.plane or "a plane that is free to take it",
        done=", ".join(row.planes_done) or "none yet",
    )
    because = f": {row.reason}" if row.reason else ""
    if row.state == "broken":
        return f"revision {row.revision} is broken and started on no other plane{because}"
    if row.state == "paused":
        return f"{told}, but it is paused{because}"
    return f"{told}{because}"


_SENTENCES = {
    "first": "the first revision, {new}: the others wait until one replica on {plane} is READY",
    "canary": (
        "revision {new} waits until its first replica, on {plane}, is READY;"
        " revision {old} serves meanwhile"
    ),
    "soaking": "revision {new} has one replica READY on {plane}, which is watched before others",
    "rolling": "revision {new} follows plane by plane, now on {plane} (done: {done})",
    "complete": "revision {new} is rolled out",
    "rolled_back": "revision {new} was taken back, revision {old} serves",
}


def _name(project: str, deployment: str) -> str:
    return f"{full_name(project, 'deployments', deployment)}/rollout"
