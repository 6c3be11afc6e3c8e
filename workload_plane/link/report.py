"""The plane's report on itself, whole each time: PURE, from settings and what was observed."""

from collections.abc import Iterable

from skerry.fleet.desired import FEATURES
from skerry.fleet.generation import Version
from skerry.fleet.observation import ObservedReplica, PeerView, PlaneReport
from skerry.fleet.pool import GatewayAddresses
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.replicas.supply import Supply
from workload_plane.settings import PlaneSettings


def build_report(
    settings: PlaneSettings,
    held: Version,
    replicas: Iterable[ReplicaRecord],
    peers: tuple[PeerView, ...],
    software: str,
    supply: Supply | None = None,
) -> PlaneReport:
    """Return all that the plane says of itself; without a supply, what its settings say it has."""
    gateway = settings.gateway
    host = gateway.advertised_host
    public = f"{host}:{gateway.public_port}"
    peer = f"{host}:{gateway.peer_port}" if gateway.peer_reachable else ""
    return PlaneReport(
        identity=settings.identity,
        pools=settings.pools if supply is None else supply.shapes,
        gateway=GatewayAddresses(http=public, grpc=public, peer=peer),
        held=held,
        replicas=tuple(observed_replica(record) for record in replicas),
        peers=peers,
        features=FEATURES,
        software=software,
        nodes=settings.nodes if supply is None else supply.nodes,
    )


def observed_replica(record: ReplicaRecord) -> ObservedReplica:
    """Return a record as the control plane is told of it."""
    return ObservedReplica(
        name=record.name,
        deployment=record.deployment,
        revision=record.revision,
        pool=record.pool,
        state=record.state,
        http=f"{record.host}:{record.http_port}" if record.http_port else "",
        grpc=f"{record.host}:{record.grpc_port}" if record.grpc_port else "",
        pid=record.pid,
        engine_pid=record.engine_pid,
        restarts=record.restarts,
        failures=record.failures,
        message=record.message,
        nodes=record.nodes,
        start_seconds=record.start_seconds,
    )
