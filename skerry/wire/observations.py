"""What planes report, fleet <-> protobuf."""

import math
from datetime import UTC, datetime
from typing import Any

from skerry.api.common.v1 import replica_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.node import NODES_REPORTED_MAX
from skerry.fleet.observation import (
    FAULT_CHARACTERS_MAX,
    GATEWAY_FAULTS_MAX,
    ObservedReplica,
    PeerVerdict,
    PeerView,
    PlaneReport,
    ReplicaState,
)
from skerry.wire.enums import from_number
from skerry.wire.supply import (
    gateway_from_proto,
    gateway_to_proto,
    identity_from_proto,
    identity_to_proto,
    node_from_proto,
    node_to_proto,
    pool_shape_from_proto,
    pool_shape_to_proto,
    version_from_proto,
    version_to_proto,
)

REPLICA_STATES = {
    ReplicaState.STARTING: replica_pb2.REPLICA_STATE_STARTING,
    ReplicaState.READY: replica_pb2.REPLICA_STATE_READY,
    ReplicaState.DRAINING: replica_pb2.REPLICA_STATE_DRAINING,
    ReplicaState.FAILED: replica_pb2.REPLICA_STATE_FAILED,
}
PEER_VERDICTS = {
    PeerVerdict.UNKNOWN: replica_pb2.PEER_VERDICT_UNKNOWN,
    PeerVerdict.SERVING: replica_pb2.PEER_VERDICT_SERVING,
    PeerVerdict.REACHABLE: replica_pb2.PEER_VERDICT_REACHABLE,
    PeerVerdict.UNREACHABLE: replica_pb2.PEER_VERDICT_UNREACHABLE,
}


def replica_to_proto(replica: ObservedReplica) -> replica_pb2.ObservedReplica:
    """Return the message of an observed replica."""
    return replica_pb2.ObservedReplica(
        name=replica.name,
        deployment=replica.deployment,
        revision=replica.revision,
        pool=replica.pool,
        state=REPLICA_STATES[replica.state],
        http=replica.http,
        grpc=replica.grpc,
        pid=replica.pid,
        engine_pid=replica.engine_pid,
        restarts=replica.restarts,
        message=replica.message,
        nodes=replica.nodes,
        start_seconds=replica.start_seconds,
        failures=replica.failures,
    )


def replica_from_proto(message: replica_pb2.ObservedReplica) -> ObservedReplica:
    """Return an observed replica; InvalidInput when its state is not known here."""
    return ObservedReplica(
        name=message.name,
        deployment=message.deployment,
        revision=message.revision,
        pool=message.pool,
        state=from_number(REPLICA_STATES, message.state, "replica state"),
        http=message.http,
        grpc=message.grpc,
        pid=message.pid,
        engine_pid=message.engine_pid,
        restarts=message.restarts,
        message=message.message,
        nodes=tuple(message.nodes),
        start_seconds=_seconds(message.start_seconds),
        failures=max(0, message.failures) if message.HasField("failures") else None,
    )


def _seconds(told: float) -> float:
    """Return a time that a plane measured, 0 for one that cannot be."""
    return told if math.isfinite(told) and told > 0.0 else 0.0


def peer_view_to_proto(view: PeerView) -> replica_pb2.PeerView:
    """Return the message of one witness's verdict."""
    return replica_pb2.PeerView(
        plane=view.plane,
        verdict=PEER_VERDICTS[view.verdict],
        since_time=view.since,
        served_until_time=view.served_until,
        served_until_seconds=view.served_until_seconds,
    )


def peer_view_from_proto(message: replica_pb2.PeerView) -> PeerView:
    """Return one witness's verdict; InvalidInput when it is not known here."""
    return PeerView(
        plane=message.plane,
        verdict=from_number(PEER_VERDICTS, message.verdict, "peer verdict"),
        since=_moment(message, "since_time"),
        served_until=_moment(message, "served_until_time"),
        served_until_seconds=_reading(message, "served_until_seconds"),
    )


def _moment(message: replica_pb2.PeerView, field: str) -> datetime | None:
    """Return a time as its witness tells it, None for one that no calendar has."""
    if not message.HasField(field):
        return None
    try:
        moment: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment


def _reading(message: Any, field: str) -> float | None:
    """Return what a plane's clock showed, None for what no clock shows."""
    told = getattr(message, field) if message.HasField(field) else math.nan
    return float(told) if math.isfinite(told) else None


def report_to_proto(report: PlaneReport) -> plane_service_pb2.Observed:
    """Return the message of a plane's report."""
    return plane_service_pb2.Observed(
        identity=identity_to_proto(report.identity),
        pools=[pool_shape_to_proto(shape) for shape in report.pools],
        gateway=gateway_to_proto(report.gateway),
        held=version_to_proto(report.held),
        replicas=[replica_to_proto(replica) for replica in report.replicas],
        peers=[peer_view_to_proto(view) for view in report.peers],
        nodes=[node_to_proto(node) for node in report.nodes],
        gateway_faults=report.gateway_faults,
        held_digest=report.held_digest,
        newest_epoch=report.newest_epoch,
        told_seconds=report.told_at_seconds,
        seen=version_to_proto(report.seen),
    )


def report_from_proto(
    message: plane_service_pb2.Observed, features: tuple[str, ...] = (), software: str = ""
) -> PlaneReport:
    """Return a plane's report; ValueError or InvalidInput name what cannot be."""
    return PlaneReport(
        identity=identity_from_proto(message.identity),
        pools=tuple(pool_shape_from_proto(shape) for shape in message.pools),
        gateway=gateway_from_proto(message.gateway),
        held=version_from_proto(message.held),
        replicas=tuple(replica_from_proto(replica) for replica in message.replicas),
        peers=tuple(peer_view_from_proto(view) for view in message.peers),
        nodes=tuple(node_from_proto(node) for node in message.nodes[:NODES_REPORTED_MAX]),
        gateway_faults=tuple(
            fault[:FAULT_CHARACTERS_MAX] for fault in message.gateway_faults[:GATEWAY_FAULTS_MAX]
        ),
        held_digest=message.held_digest,
        newest_epoch=max(0, message.newest_epoch),
        told_at_seconds=_reading(message, "told_seconds"),
        seen=version_from_proto(message.seen),
        features=features,
        software=software,
    )
