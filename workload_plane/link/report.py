"""The plane's report on itself, whole each time: PURE, from settings and what was observed."""

from collections.abc import Iterable
from importlib import metadata

from skerry.fleet.desired import FEATURES
from skerry.fleet.generation import Version
from skerry.fleet.observation import ObservedReplica, PeerView, PlaneReport
from skerry.fleet.pool import GatewayAddresses
from workload_plane.replicas.records import LOOPBACK, ReplicaRecord
from workload_plane.settings import PlaneSettings


def build_report(
    settings: PlaneSettings,
    held: Version,
    replicas: Iterable[ReplicaRecord],
    peers: tuple[PeerView, ...],
    software: str,
) -> PlaneReport:
    """Return all that the plane says of itself."""
    gateway = settings.gateway
    public = f"{gateway.host}:{gateway.public_port}"
    return PlaneReport(
        identity=settings.identity,
        pools=settings.pools,
        gateway=GatewayAddresses(
            http=public, grpc=public, peer=f"{gateway.host}:{gateway.peer_port}"
        ),
        held=held,
        replicas=tuple(observed_replica(record) for record in replicas),
        peers=peers,
        features=FEATURES,
        software=software,
    )


def observed_replica(record: ReplicaRecord) -> ObservedReplica:
    """Return a record as the control plane is told of it."""
    return ObservedReplica(
        name=record.name,
        deployment=record.deployment,
        revision=record.revision,
        pool=record.pool,
        state=record.state,
        http=f"{LOOPBACK}:{record.http_port}" if record.http_port else "",
        grpc=f"{LOOPBACK}:{record.grpc_port}" if record.grpc_port else "",
        pid=record.pid,
        engine_pid=record.engine_pid,
        restarts=record.restarts,
        message=record.message,
    )


def software_version() -> str:
    """Return this release's name and number."""
    try:
        return f"skerry {metadata.version('skerry')}"
    except metadata.PackageNotFoundError:
        return "skerry (checkout)"
