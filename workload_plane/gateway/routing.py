"""What the gateway and the front are to know, from what is desired and what runs: PURE.

`feed` publishes the topology and writes the front's endpoints; both are derived, so
neither needs memory of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from skerry.fleet.api_key import ApiKey
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.digests import split_digest
from skerry.fleet.names import full_name
from skerry.fleet.observation import ReplicaState
from skerry.fleet.pool import resides
from workload_plane.gateway.abilities import (
    adapter_names,
    ignores_tools,
    is_fragile,
    lacking_paths,
    serves_trtllm,
)
from workload_plane.gateway.peers import allowed_peers, order_peers
from workload_plane.gateway.topology import (
    Address,
    GatewayTopology,
    ListenAddresses,
    LocalReplica,
    Peer,
    PeerTls,
    RelayPorts,
    ServedModel,
)
from workload_plane.picker.wire import has_short_paths
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import LOOPBACK
from workload_plane.settings import PlaneSettings

# The objective is of the reference mix; a prompt that fills the context takes several times it,
# and a bound that is too short cuts answers, one that is too long only finds a hang later.
TTFT_BOUND_FACTOR = 5.0
TTFT_BOUND_SECONDS_MIN = 10.0
# Who promises two seconds for a chat's question has promised nothing for a prompt that fills a
# context of 128k: at 30 s, three times the least bound, it was cut, and tried again in vain.
PREFILL_TOKENS_PER_SECOND_MIN = 1_000.0
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
    measured: Mapping[str, float] | None = None,
) -> GatewayTopology:
    """Return the gateway's whole topology; raises ValueError when it does not fit together.

    `measured` are the peers' distances in seconds, of those that are known.
    """
    replicas = [one for one in live if one.alive]
    others = {peer.plane: peer for peer in desired.peers if peer.plane != settings.plane}
    far = measured or {}
    ordered = order_peers(_own(settings), tuple(others.values()), far)
    peers = _peers(ordered, others, hosts, far)
    reachable = {peer.plane for peer in peers}
    models: dict[str, ServedModel] = {}
    # What may be asked for here comes first: a name that another may not be asked by is its own.
    for assignment in sorted(served(desired, replicas), key=lambda one: not admits(settings, one)):
        model = _model(settings, assignment, replicas, _helpers(assignment, ordered, others))
        if not admits(settings, assignment):
            model = _kept_out(model, assignment)
        else:
            model = replace(
                model,
                peers=tuple(plane for plane in model.peers if plane in reachable),
                untold_peers=_untold_helpers(assignment, ordered, others),
            )
        # Two deployments of one served name: the first by name keeps it, or neither would serve.
        models.setdefault(model.served_name, model)
    by_name = sorted(models.values(), key=lambda model: model.deployment)
    models_here = _without_clashes(tuple(by_name))
    topology = _listening(settings, hosts, models_here, peers, desired.api_keys or ())
    revoked = (full_name(settings.project, "planes", one) for one in desired.revoked_planes or ())
    return replace(topology, revoked=tuple(revoked))


def empty_topology(settings: PlaneSettings, hosts: Hosts) -> GatewayTopology:
    """Return the topology of a plane that was never told anything: it listens, and serves none.

    Where keys are asked for there is none yet that lets anybody in.
    """
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


def admits(settings: PlaneSettings, assignment: Assignment) -> bool:
    """Say whether this plane may see the deployment's requests at all; fails closed.

    By the plane's own settings, not by what the control plane tells of it: a plane that names no
    zone lies in none.
    """
    return resides(settings.identity.residency_zones, assignment.deployment.policy.residency_zones)


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
                "base_model": split_digest(assignment.deployment.revision.base_model.uri)[0],
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
            if admits(settings, assignment)
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
    ordered: tuple[str, ...],
    others: Mapping[str, PeerPlane],
    hosts: Hosts,
    measured: Mapping[str, float],
) -> tuple[Peer, ...]:
    peers = []
    for rank, plane in enumerate(ordered):
        host, _, port = others[plane].peer_address.rpartition(":")
        address = hosts.address(host)
        if address is None or not port.isdigit():
            continue  # not resolved yet: it comes with the next publication
        peers.append(
            Peer(
                plane=plane,
                host=address,
                peer_port=int(port),
                distance_rank=rank,
                distance_seconds=measured.get(plane),
            )
        )
    return tuple(peers)


def _helpers(
    assignment: Assignment, ordered: tuple[str, ...], others: Mapping[str, PeerPlane]
) -> tuple[str, ...]:
    serving = [plane for plane in ordered if plane in assignment.serving_planes]
    return allowed_peers(serving, others, assignment.deployment.policy.residency_zones)


def _untold_helpers(
    assignment: Assignment, ordered: tuple[str, ...], others: Mapping[str, PeerPlane]
) -> tuple[str, ...]:
    """Return who may help where the desired state names nobody that serves it, not even here."""
    if assignment.serving_planes:
        return ()
    return allowed_peers(ordered, others, assignment.deployment.policy.residency_zones)


def _model(
    settings: PlaneSettings,
    assignment: Assignment,
    live: Sequence[LiveReplica],
    peers: tuple[str, ...],
) -> ServedModel:
    deployment = assignment.deployment
    revision = deployment.revision
    engine = settings.engine_override or revision.engine.name
    may_start = any(envelope.ceiling for envelope in assignment.envelopes)
    bound = max(
        TTFT_BOUND_SECONDS_MIN,
        TTFT_BOUND_FACTOR * revision.objective.ttft_seconds,
        revision.engine.context_tokens / PREFILL_TOKENS_PER_SECOND_MIN,
    )
    answer = DEADLINE_FACTOR * revision.engine.context_tokens * revision.objective.tpot_seconds
    return ServedModel(
        served_name=revision.base_model.served_name,
        deployment=deployment.name,
        project=deployment.project,
        ttft_bound_seconds=bound,
        ttft_objective_seconds=revision.objective.ttft_seconds,
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
            if _is_of(one, deployment.name)
        ),
        peers=peers,
        listed=may_start or bool(peers) or any(_is_of(one, deployment.name) for one in live),
        refuses_tools=ignores_tools(revision, engine),
        guarded=is_fragile(engine),
        adapters=adapter_names(revision, engine),
        lacks=lacking_paths(engine),
        serves_trtllm=serves_trtllm(revision, engine),
        routing=deployment.routing,
        priority=deployment.policy.priority,
        concurrent_requests=revision.engine.concurrent_requests,
    )


def _kept_out(model: ServedModel, assignment: Assignment) -> ServedModel:
    """Return the model as it is where its requests may not come: replicas end what they have."""
    return replace(
        model,
        replicas=tuple(replace(replica, draining=True) for replica in model.replicas),
        peers=(),
        listed=False,
        outside_of=assignment.deployment.policy.residency_zones,
    )


def _is_of(one: LiveReplica, deployment: str) -> bool:
    return one.record.deployment == deployment and one.record.state in (
        ReplicaState.READY,
        ReplicaState.DRAINING,
    )


def _without_clashes(models: tuple[ServedModel, ...]) -> tuple[ServedModel, ...]:
    """Return the models with those adapters only whose names mean nothing else already."""
    taken = {model.served_name for model in models}
    kept: list[ServedModel] = []
    for model in models:
        adapters = tuple(name for name in dict.fromkeys(model.adapters) if name not in taken)
        taken.update(adapters)
        kept.append(replace(model, adapters=adapters))
    return tuple(kept)


def _relay(settings: PlaneSettings) -> RelayPorts | None:
    relay = settings.relay
    if relay is None:
        return None
    return RelayPorts(
        http_port=relay.http_port, grpc_port=relay.grpc_port, inner_port=relay.inner_port
    )


def _listening(
    settings: PlaneSettings,
    hosts: Hosts,
    models: tuple[ServedModel, ...],
    peers: tuple[Peer, ...],
    api_keys: tuple[ApiKey, ...] = (),
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
        relay=_relay(settings),
        api_keys=api_keys if gateway.require_keys else None,
        tls=PeerTls(
            certificate_path=str(tls.cert),
            key_path=str(tls.key),
            authority_path=str(tls.ca),
            verify_plane_names=True,
        )
        if tls is not None
        else None,
        picker_directory=str(settings.picker_dir) if has_short_paths(settings.picker_dir) else "",
        picks=gateway.picker and has_short_paths(settings.picker_dir),
        tracing=settings.tracing,
    )
