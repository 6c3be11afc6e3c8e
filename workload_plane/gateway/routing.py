"""What the gateway and the front are to know, from what is desired and what runs: PURE.

`feed` publishes the topology and writes the front's endpoints; both are derived, so
neither needs memory of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from skerry.fleet.deployment import Revision
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.engine import EngineName
from skerry.fleet.observation import ReplicaState
from workload_plane.gateway.peers import allowed_peers, order_peers
from workload_plane.gateway.topology import (
    Address,
    GatewayTopology,
    ListenAddresses,
    LocalReplica,
    Peer,
    PeerTls,
    ServedModel,
)
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import LOOPBACK
from workload_plane.settings import PlaneSettings

# The objective is of the reference mix; a prompt that fills the context takes several times it,
# and a bound that is too short cuts answers, one that is too long only finds a hang later.
TTFT_BOUND_FACTOR = 5.0
TTFT_BOUND_SECONDS_MIN = 10.0
# Twice the promised pace for as many tokens as the context holds.
DEADLINE_FACTOR = 2.0
DEADLINE_SECONDS_MIN = 60.0
ENDPOINTS_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """IP addresses by host name, as last resolved; what is an address already stays itself."""

    known: Mapping[str, str]

    def address(self, host: str) -> str | None:
        """Return the address of a host, None while it was never resolved."""
        return self.known.get(host)


def build_topology(
    settings: PlaneSettings,
    desired: DesiredState,
    live: Iterable[LiveReplica],
    hosts: Hosts,
) -> GatewayTopology:
    """Return the gateway's whole topology; raises ValueError when it does not fit together."""
    replicas = [one for one in live if one.alive]
    others = {peer.plane: peer for peer in desired.peers if peer.plane != settings.plane}
    ordered = order_peers(_own(settings), tuple(others.values()), {})
    peers = _peers(ordered, others, hosts)
    reachable = {peer.plane for peer in peers}
    models: dict[str, ServedModel] = {}
    for assignment in served(desired, replicas):
        model = _model(assignment, replicas, _helpers(assignment, ordered, others))
        # Two deployments of one served name: the first by name keeps it, or neither would serve.
        models.setdefault(
            model.served_name, _with_peers(model, [p for p in model.peers if p in reachable])
        )
    return _listening(settings, hosts, tuple(models.values()), peers)


def empty_topology(settings: PlaneSettings, hosts: Hosts) -> GatewayTopology:
    """Return the topology of a plane that was never told anything: it listens, and serves none."""
    return _listening(settings, hosts, (), ())


def served(desired: DesiredState, live: Iterable[LiveReplica]) -> tuple[Assignment, ...]:
    """Return the assignments that users may ask for, by name.

    One that is deleted is still there while replicas of it finish what they began.
    """
    running = {one.record.deployment for one in live if one.alive}
    return tuple(
        assignment
        for assignment in sorted(desired.assignments, key=lambda a: a.deployment.name)
        if not assignment.tombstone or assignment.deployment.name in running
    )


def build_endpoints(
    settings: PlaneSettings, desired: DesiredState, live: Iterable[LiveReplica]
) -> dict[str, object]:
    """Return what the front is told, as plain values for endpoints.json."""
    replicas = [one for one in live if one.alive and one.record.state is ReplicaState.READY]
    return {
        "format": ENDPOINTS_FORMAT,
        "plane": settings.plane,
        "models": [
            {
                "served_name": assignment.deployment.revision.base_model.served_name,
                "deployment": assignment.deployment.name,
                "base_model": assignment.deployment.revision.base_model.uri,
                "context_tokens": assignment.deployment.revision.engine.context_tokens,
                "replicas": [
                    {
                        "name": one.record.name,
                        "grpc": f"{one.record.host}:{one.record.grpc_port}",
                    }
                    for one in replicas
                    if one.record.deployment == assignment.deployment.name
                ],
            }
            for assignment in served(desired, replicas)
        ],
    }


def _own(settings: PlaneSettings) -> PeerPlane:
    identity = settings.identity
    return PeerPlane(
        plane=identity.name,
        cloud=identity.cloud,
        region=identity.region,
        peer_address="",
        residency_zones=identity.residency_zones,
    )


def _peers(
    ordered: tuple[str, ...], others: Mapping[str, PeerPlane], hosts: Hosts
) -> tuple[Peer, ...]:
    peers = []
    for rank, plane in enumerate(ordered):
        host, _, port = others[plane].peer_address.rpartition(":")
        address = hosts.address(host)
        if address is None or not port.isdigit():
            continue  # not resolved yet: it comes with the next publication
        peers.append(Peer(plane=plane, host=address, peer_port=int(port), distance_rank=rank))
    return tuple(peers)


def _helpers(
    assignment: Assignment, ordered: tuple[str, ...], others: Mapping[str, PeerPlane]
) -> tuple[str, ...]:
    serving = [plane for plane in ordered if plane in assignment.serving_planes]
    return allowed_peers(serving, others, assignment.deployment.policy.residency_zones)


def _model(
    assignment: Assignment,
    live: Iterable[LiveReplica],
    peers: tuple[str, ...],
) -> ServedModel:
    deployment = assignment.deployment
    revision = deployment.revision
    bound = max(TTFT_BOUND_SECONDS_MIN, TTFT_BOUND_FACTOR * revision.objective.ttft_seconds)
    answer = DEADLINE_FACTOR * revision.engine.context_tokens * revision.objective.tpot_seconds
    return ServedModel(
        served_name=revision.base_model.served_name,
        deployment=deployment.name,
        ttft_bound_seconds=bound,
        total_deadline_seconds=max(DEADLINE_SECONDS_MIN, bound + answer),
        replicas=tuple(
            LocalReplica(
                name=one.record.name,
                host=one.record.host,
                http_port=one.record.http_port,
                grpc_port=one.record.grpc_port,
                health_port=one.record.health_port,
                draining=one.record.state is ReplicaState.DRAINING,
            )
            for one in live
            if one.record.deployment == deployment.name
            and one.record.state in (ReplicaState.READY, ReplicaState.DRAINING)
        ),
        peers=peers,
        refuses_tools=_ignores_tools(revision),
    )


def _ignores_tools(revision: Revision) -> bool:
    # The others refuse tools by themselves when no parser for them is set.
    is_llamacpp = revision.engine.name is EngineName.LLAMACPP
    return is_llamacpp and dict(revision.engine.options).get("tools", "").lower() != "true"


def _with_peers(model: ServedModel, peers: list[str]) -> ServedModel:
    return replace(model, peers=tuple(peers))


def _listening(
    settings: PlaneSettings,
    hosts: Hosts,
    models: tuple[ServedModel, ...],
    peers: tuple[Peer, ...],
) -> GatewayTopology:
    gateway = settings.gateway
    host = hosts.address(gateway.host) or gateway.host
    tls = settings.tls
    return GatewayTopology(
        plane=settings.plane,
        project=settings.project,
        listen=ListenAddresses(
            public_host=host,
            public_port=gateway.public_port,
            peer_host=host,
            peer_port=gateway.peer_port,
            admin_port=gateway.admin_port,
        ),
        models=models,
        peers=peers if tls is not None else (),
        front=Address(host=LOOPBACK, port=settings.front_port),
        tls=PeerTls(
            certificate_path=str(tls.cert),
            key_path=str(tls.key),
            authority_path=str(tls.ca),
            verify_plane_names=True,
        )
        if tls is not None
        else None,
    )
