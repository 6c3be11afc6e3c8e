"""What operators do to a running fleet, and its nodes: calls and rows.

`operator_methods` makes the clients' methods of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from skerry.api.operator.v1 import node_pb2, operations_service_pb2, operator_service_pb2
from skerry.client import operator_rows
from skerry.client.operator_calls import (
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
    page_fields,
)
from skerry.client.rows import PlanPreview
from skerry.fleet.names import full_name

_NODE_STATES = {node_pb2.Node.STATE_READY: "ready", node_pb2.Node.STATE_NOT_READY: "not ready"}


class DrainState(StrEnum):
    """How a drain stands."""

    NOT_STARTED = "not started"
    DRAINING = "draining"
    DRAINED = "drained"
    ENDED = "ended"  # uncordoned before it was empty


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainingRow:
    """A deployment with replicas left where it is drained."""

    deployment: str
    replicas_left: int
    replicas_wanted: int
    replicas_ready_elsewhere: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRow:
    """How far a drain is; `waits_for` says what keeps it from going on."""

    state: DrainState
    replicas_left: int
    deployments: tuple[DrainingRow, ...]
    waits_for: tuple[str, ...]
    started_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Say whether nothing more will be told."""
        return self.state is not DrainState.DRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverRow:
    """Planes that are declared lost, and those in the part that are not; by name."""

    planes: tuple[str, ...]
    heard: tuple[str, ...]
    lost_before: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node by its fleet-wide id, with what runs there."""

    name: str
    plane: str
    pool: str
    state: str
    message: str
    accelerators: int
    accelerators_used: int
    replicas: tuple[str, ...]
    cordoned: bool
    draining: bool
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Replicas of a deployment that are to leave one pool for another, `PLANE--POOL`."""

    deployment: str
    from_pool: str
    to_pool: str
    replicas: int = 1


def list_nodes(project: str, token: str, which: Which) -> Call[Page[NodeRow]]:
    """Return the call for a page of nodes."""
    fields = {**page_fields(project, token), **which.fields()}
    request = operator_service_pb2.ListNodesRequest(**fields)
    return page_call("ListNodes", request, "nodes", node_row)


def get_node(project: str, name: str) -> Call[NodeRow]:
    """Return the call for one node."""
    request = operator_service_pb2.GetNodeRequest(name=full_name(project, "nodes", name))
    return Call(method="GetNode", request=request, read=node_row)


def drain_request(
    project: str, part: str, request_id: str, *, validate_only: bool = False
) -> operations_service_pb2.DrainRequest:
    """Return the request that drains `planes/X`, `nodes/PLANE--NODE` or the like, or follows it."""
    return operations_service_pb2.DrainRequest(
        name=f"projects/{project}/{part}", request_id=request_id, validate_only=validate_only
    )


def failover(
    project: str, part: str, request_id: str, *, even_if_serving: bool, validate_only: bool
) -> Call[FailoverRow]:
    """Return the call that declares the silent planes of `planes/X` or the like lost."""
    request = operations_service_pb2.FailoverRequest(
        name=f"projects/{project}/{part}",
        request_id=request_id,
        even_if_serving=even_if_serving,
        validate_only=validate_only,
    )
    return Call(
        method="Failover", request=request, read=_failover_row, seconds_max=WRITE_SECONDS_MAX
    )


def move_replica(
    project: str, move: Move, request_id: str, *, validate_only: bool
) -> Call[PlanPreview]:
    """Return the call that moves replicas from one pool to another."""
    request = operations_service_pb2.MoveReplicaRequest(
        name=full_name(project, "deployments", move.deployment),
        from_pool=move.from_pool,
        to_pool=move.to_pool,
        replicas=move.replicas,
        request_id=request_id,
        validate_only=validate_only,
    )
    return Call(
        method="MoveReplica",
        request=request,
        read=operator_rows.plan_preview,
        seconds_max=WRITE_SECONDS_MAX,
    )


def drain_row(message: operations_service_pb2.DrainResponse) -> DrainRow:
    """Return how far a drain is."""
    name = operations_service_pb2.DrainResponse.State.Name(message.state)
    state = DrainState(name.removeprefix("STATE_").replace("_", " ").lower())
    started = message.start_time if message.HasField("start_time") else None
    return DrainRow(
        state=state,
        replicas_left=message.replicas_left,
        deployments=tuple(
            DrainingRow(
                deployment=one.deployment,
                replicas_left=one.replicas_left,
                replicas_wanted=one.replicas_wanted,
                replicas_ready_elsewhere=one.replicas_ready_elsewhere,
            )
            for one in message.deployments
        ),
        waits_for=tuple(message.waits_for),
        started_at=started.ToDatetime(tzinfo=UTC) if started else None,
    )


def node_row(message: node_pb2.Node) -> NodeRow:
    """Return a node."""
    return NodeRow(
        name=message.name.rpartition("/")[2],
        plane=message.plane,
        pool=message.pool,
        state=_NODE_STATES.get(message.state, "unknown"),
        message=message.message,
        accelerators=message.accelerators,
        accelerators_used=message.accelerators_used,
        replicas=tuple(message.replicas),
        cordoned=message.cordoned,
        draining=message.draining,
        updated_at=message.update_time.ToDatetime(tzinfo=UTC),
    )


def _failover_row(message: Any) -> FailoverRow:
    return FailoverRow(
        planes=_names(message.planes),
        heard=_names(message.heard),
        lost_before=_names(message.lost_before),
    )


def _names(told: Sequence[str]) -> tuple[str, ...]:
    return tuple(told)
