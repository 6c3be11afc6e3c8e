"""Deployments and envelopes, fleet <-> protobuf."""

from skerry.api.common.v1 import deployment_pb2
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailBack,
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Revision,
    ServiceObjective,
    Spread,
    Tolerate,
)
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.placement import Envelope
from skerry.fleet.rollout import OnFailure, RolloutPolicy
from skerry.fleet.routing import Routing, RoutingPolicy
from skerry.wire.engines import engine_from_proto, engine_to_proto
from skerry.wire.enums import from_number
from skerry.wire.scaling import scaling_from_proto, scaling_to_proto

FAIL_BACKS: dict[FailBack | None, deployment_pb2.FailBack] = {
    None: deployment_pb2.FAIL_BACK_UNSPECIFIED,
    FailBack.BEST_SCORE: deployment_pb2.FAIL_BACK_BEST_SCORE,
    FailBack.KEEP_ORIGINAL: deployment_pb2.FAIL_BACK_KEEP_ORIGINAL,
    FailBack.KEEP_REPLACEMENT: deployment_pb2.FAIL_BACK_KEEP_REPLACEMENT,
}


def deployment_to_proto(deployment: Deployment) -> deployment_pb2.DeploymentSpec:
    """Return the message of a deployment."""
    return deployment_pb2.DeploymentSpec(
        project=deployment.project,
        name=deployment.name,
        labels=dict(deployment.labels),
        revision=revision_to_proto(deployment.revision),
        scaling=scaling_to_proto(deployment.scaling),
        policy=_policy_to_proto(deployment.policy),
        routing=_routing_to_proto(deployment.routing),
        rollout=_rollout_to_proto(deployment.rollout),
    )


def deployment_from_proto(message: deployment_pb2.DeploymentSpec) -> Deployment:
    """Return the deployment; ValueError names what is out of range."""
    return Deployment(
        name=message.name,
        project=message.project or DEFAULT_PROJECT,
        labels=tuple(sorted(message.labels.items())),
        revision=revision_from_proto(message.revision),
        scaling=scaling_from_proto(message.scaling),
        policy=_policy_from_proto(message.policy),
        routing=_routing_from_proto(message.routing),
        rollout=_rollout_from_proto(message.rollout),
    )


def envelope_to_proto(envelope: Envelope) -> deployment_pb2.Envelope:
    """Return the message of an envelope."""
    return deployment_pb2.Envelope(
        deployment=envelope.deployment,
        pool=envelope.pool,
        floor=envelope.floor,
        target=envelope.target,
        ceiling=envelope.ceiling,
    )


def envelope_from_proto(message: deployment_pb2.Envelope) -> Envelope:
    """Return the envelope; ValueError when its bounds are out of order."""
    return Envelope(
        deployment=message.deployment,
        pool=message.pool,
        floor=message.floor,
        target=message.target,
        ceiling=message.ceiling,
    )


def revision_to_proto(revision: Revision) -> deployment_pb2.Revision:
    """Return a revision's message."""
    return deployment_pb2.Revision(
        number=revision.number,
        base_model=deployment_pb2.BaseModel(
            uri=revision.base_model.uri, served_name=revision.base_model.served_name
        ),
        engine=engine_to_proto(revision.engine),
        shapes=[
            deployment_pb2.ResourceShape(
                accelerator=shape.accelerator,
                accelerators=shape.accelerators,
                host_memory_bytes=shape.host_memory_bytes,
                throughput_tokens_per_second=shape.throughput_tokens_per_second,
            )
            for shape in revision.shapes
        ],
        objective=deployment_pb2.ServiceObjective(
            ttft_seconds=revision.objective.ttft_seconds,
            tpot_seconds=revision.objective.tpot_seconds,
        ),
    )


def revision_from_proto(message: deployment_pb2.Revision) -> Revision:
    """Return the revision of a message; ValueError when it breaks an invariant."""
    return Revision(
        number=message.number,
        base_model=BaseModel(
            uri=message.base_model.uri, served_name=message.base_model.served_name
        ),
        engine=engine_from_proto(message.engine),
        shapes=tuple(
            ResourceShape(
                accelerator=shape.accelerator,
                accelerators=shape.accelerators,
                host_memory_bytes=shape.host_memory_bytes,
                throughput_tokens_per_second=(
                    shape.throughput_tokens_per_second
                    if shape.HasField("throughput_tokens_per_second")
                    else None
                ),
            )
            for shape in message.shapes
        ),
        objective=ServiceObjective(
            ttft_seconds=message.objective.ttft_seconds,
            tpot_seconds=message.objective.tpot_seconds,
        ),
    )


def _routing_to_proto(routing: Routing) -> deployment_pb2.RoutingSpec | None:
    """Return None for the defaults: what nobody said stays out of what is stored and pushed."""
    if routing == Routing():
        return None
    return deployment_pb2.RoutingSpec(
        policy=routing.policy.value,
        continuation=routing.continuation,
        queue_requests_max=routing.queue_requests_max,
        queue_seconds_max=routing.queue_seconds_max,
    )


def _routing_from_proto(message: deployment_pb2.RoutingSpec) -> Routing:
    default = Routing()
    requests, seconds = message.queue_requests_max, message.queue_seconds_max
    return Routing(
        policy=RoutingPolicy(message.policy or default.policy),
        continuation=message.continuation,
        queue_requests_max=(
            requests if message.HasField("queue_requests_max") else default.queue_requests_max
        ),
        queue_seconds_max=(
            seconds if message.HasField("queue_seconds_max") else default.queue_seconds_max
        ),
    )


def _rollout_to_proto(policy: RolloutPolicy) -> deployment_pb2.RolloutPolicySpec | None:
    if policy == RolloutPolicy():
        return None
    return deployment_pb2.RolloutPolicySpec(
        soak_seconds=policy.soak_seconds,
        ready_seconds_max=policy.ready_seconds_max,
        max_surge=policy.max_surge,
        max_unavailable=policy.max_unavailable,
        on_failure=policy.on_failure.value,
    )


def _rollout_from_proto(message: deployment_pb2.RolloutPolicySpec) -> RolloutPolicy:
    default = RolloutPolicy()

    def told(name: str) -> float:
        value: float = getattr(message, name)
        return value if message.HasField(name) else getattr(default, name)

    return RolloutPolicy(
        soak_seconds=told("soak_seconds"),
        ready_seconds_max=message.ready_seconds_max,
        max_surge=int(told("max_surge")),
        max_unavailable=int(told("max_unavailable")),
        on_failure=OnFailure(message.on_failure or default.on_failure),
    )


def _policy_to_proto(policy: PlacementPolicy) -> deployment_pb2.PlacementPolicy:
    message = deployment_pb2.PlacementPolicy(
        clouds=policy.clouds,
        regions=policy.regions,
        residency_zones=policy.residency_zones,
        capacity_classes=policy.capacity_classes,
        priority=policy.priority,
        cost_per_hour_max=policy.cost_per_hour_max,
        spot_share_max=policy.spot_share_max,
        anti_affinity=policy.anti_affinity,
        latency=[
            deployment_pb2.LatencyLimit(
                client_region=limit.client_region, seconds_max=limit.seconds_max
            )
            for limit in policy.latency
        ],
        fail_back=FAIL_BACKS[policy.fail_back],
    )
    if policy.spread is not None:
        message.spread.domain = policy.spread.domain.value
        message.spread.domains_min = policy.spread.domains_min
    if policy.tolerate is not None:
        message.tolerate.domain = policy.tolerate.domain.value
        message.tolerate.keep = policy.tolerate.keep
    return message


def _policy_from_proto(message: deployment_pb2.PlacementPolicy) -> PlacementPolicy:
    spread, tolerate = message.spread, message.tolerate
    return PlacementPolicy(
        clouds=tuple(message.clouds),
        regions=tuple(message.regions),
        residency_zones=tuple(message.residency_zones),
        capacity_classes=tuple(message.capacity_classes),
        spread=(
            Spread(domain=FailureDomain(spread.domain), domains_min=spread.domains_min)
            if message.HasField("spread")
            else None
        ),
        tolerate=(
            Tolerate(domain=FailureDomain(tolerate.domain), keep=tolerate.keep)
            if message.HasField("tolerate")
            else None
        ),
        priority=message.priority,
        cost_per_hour_max=(
            message.cost_per_hour_max if message.HasField("cost_per_hour_max") else None
        ),
        spot_share_max=message.spot_share_max if message.HasField("spot_share_max") else None,
        anti_affinity=tuple(message.anti_affinity),
        latency=tuple(
            LatencyLimit(client_region=limit.client_region, seconds_max=limit.seconds_max)
            for limit in message.latency
        ),
        fail_back=from_number(FAIL_BACKS, message.fail_back, "fail-back policy"),
    )
