"""Fleet values back to the shape of files, for `skerry export`, `diff` and `get -o yaml`.

What equals the schema's default is left out; reading the result gives the same values.
"""

from collections.abc import Iterable
from typing import Any

from skerry.client.manifest_engine import render_engine
from skerry.client.manifest_intents import render_intent
from skerry.client.quantities import format_bytes, format_duration
from skerry.fleet.deployment import (
    Deployment,
    PlacementPolicy,
    ResourceShape,
    Scaling,
    ServiceObjective,
)
from skerry.fleet.intent import Intent
from skerry.fleet.rollout import RolloutPolicy
from skerry.fleet.routing import Routing
from skerry.fleet.scaling import Strategy
from skerry.plumbing import yaml_document

Mapping = dict[str, Any]


def render_text(objects: Iterable[Deployment | Intent]) -> str:
    """Return a file that says all of the objects, in their order; empty for none."""
    return yaml_document.dump(map(render_object, objects))


def render_object(one: Deployment | Intent) -> Mapping:
    """Return an object as the plain values of a file."""
    return render_manifest(one) if isinstance(one, Deployment) else render_intent(one)


def render_manifest(deployment: Deployment) -> Mapping:
    """Return the deployment as the plain values of a deployment file."""
    revision = deployment.revision
    metadata: Mapping = {"name": deployment.name}
    if deployment.labels:
        metadata["labels"] = dict(deployment.labels)
    spec: Mapping = {
        "baseModel": {
            "uri": revision.base_model.uri,
            "servedName": revision.base_model.served_name,
        },
        "engine": render_engine(revision.engine),
        "resources": [_resource(shape) for shape in revision.shapes],
    }
    if revision.objective != ServiceObjective():
        spec["objective"] = {
            "ttft": format_duration(revision.objective.ttft_seconds),
            "tpot": format_duration(revision.objective.tpot_seconds),
        }
    spec["scaling"] = _scaling(deployment.scaling)
    if deployment.policy != PlacementPolicy():
        spec["placement"] = _placement(deployment.policy)
    if deployment.routing != Routing():
        spec["routing"] = _routing(deployment.routing)
    if deployment.rollout != RolloutPolicy():
        spec["rollout"] = _rollout(deployment.rollout)
    return {
        "apiVersion": "skerry/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": spec,
    }


def _resource(shape: ResourceShape) -> Mapping:
    values: Mapping = {"accelerator": shape.accelerator, "count": shape.accelerators}
    if shape.host_memory_bytes:
        values["hostMemory"] = format_bytes(shape.host_memory_bytes)
    if shape.throughput_tokens_per_second is not None:
        values["throughputTokensPerSecond"] = shape.throughput_tokens_per_second
    return values


def _scaling(scaling: Scaling) -> Mapping:
    values: Mapping = {
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "window": format_duration(scaling.window_seconds),
        "concurrencyTarget": scaling.concurrency_target,
        "targetUtilization": scaling.target_utilization,
    }
    if scaling.scale_down_delay_seconds is not None:
        values["scaleDownDelay"] = format_duration(scaling.scale_down_delay_seconds)
    if scaling.max_scale_down_rate is not None:
        values["maxScaleDownRate"] = scaling.max_scale_down_rate
    if scaling.strategy is not Strategy.TOKEN_WORK:
        values["strategy"] = scaling.strategy.value
    if scaling.schedules:
        values["schedules"] = [
            {
                "cron": one.cron,
                "timeZone": one.time_zone,
                "duration": format_duration(one.seconds),
                "minReplicas": one.min_replicas,
            }
            for one in scaling.schedules
        ]
    if scaling.warm_spares:
        values["warmSpares"] = scaling.warm_spares
    if scaling.paused:
        values["paused"] = True
    return values


def _routing(routing: Routing) -> Mapping:
    return {
        "policy": routing.policy.value,
        "continuation": routing.continuation,
        "queue": {
            "requestsMax": routing.queue_requests_max,
            "secondsMax": routing.queue_seconds_max,
        },
    }


def _rollout(policy: RolloutPolicy) -> Mapping:
    return {
        "soak": format_duration(policy.soak_seconds),
        "readyMax": format_duration(policy.ready_seconds_max),
        "maxSurge": policy.max_surge,
        "maxUnavailable": policy.max_unavailable,
        "onFailure": policy.on_failure.value,
    }


def _placement(policy: PlacementPolicy) -> Mapping:
    values: Mapping = {
        "clouds": list(policy.clouds),
        "regions": list(policy.regions),
        "residencyZones": list(policy.residency_zones),
        "capacityClasses": list(policy.capacity_classes),
    }
    values = {name: entries for name, entries in values.items() if entries}
    if policy.spread is not None:
        values["spread"] = {
            "domain": policy.spread.domain.value,
            "domainsMin": policy.spread.domains_min,
        }
    if policy.tolerate is not None:
        values["tolerate"] = {
            "domain": policy.tolerate.domain.value,
            "keep": policy.tolerate.keep,
        }
    values["priority"] = policy.priority
    if policy.cost_per_hour_max is not None:
        values["costPerHourMax"] = policy.cost_per_hour_max
    if policy.spot_share_max is not None:
        values["spotShareMax"] = policy.spot_share_max
    if policy.anti_affinity:
        values["antiAffinity"] = list(policy.anti_affinity)
    if policy.latency:
        values["latency"] = [
            {"from": limit.client_region, "max": format_duration(limit.seconds_max)}
            for limit in policy.latency
        ]
    if policy.fail_back is not None:
        values["failBack"] = policy.fail_back.value
    return values
