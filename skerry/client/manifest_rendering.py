"""Fleet values back to the deployment file's shape, for `skerry get deployments -o yaml`.

What equals the schema's default is left out; reading the result gives the same deployment.
"""

from typing import Any

from skerry.client.quantities import format_bytes, format_duration
from skerry.fleet.deployment import (
    Deployment,
    PlacementPolicy,
    ResourceShape,
    Scaling,
    ServiceObjective,
)
from skerry.fleet.engine import EngineSpec, Parallelism, PrefixCaching, Quantisation

Mapping = dict[str, Any]


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
        "engine": _engine(revision.engine),
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
    return {
        "apiVersion": "skerry/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": spec,
    }


def _engine(engine: EngineSpec) -> Mapping:
    values: Mapping = {
        "name": engine.name.value,
        "contextTokens": engine.context_tokens,
        "concurrentRequests": engine.concurrent_requests,
    }
    if engine.quantisation != Quantisation():
        formats = {
            "weights": engine.quantisation.weights,
            "kvCache": engine.quantisation.kv_cache,
        }
        values["quantisation"] = _present(formats)
    if (drafting := engine.speculative) is not None:
        values["speculativeDecoding"] = _present(
            {
                "method": drafting.method.value,
                "draftTokens": drafting.draft_tokens,
                "draftModelUri": drafting.draft_model_uri,
            }
        )
    if engine.prefix_caching != PrefixCaching():
        values["prefixCaching"] = {"enabled": engine.prefix_caching.enabled}
        if (memory := engine.prefix_caching.host_memory_bytes) is not None:
            values["prefixCaching"]["hostMemory"] = format_bytes(memory)
    if engine.parallelism != Parallelism():
        values["parallelism"] = _parallelism(engine.parallelism)
    if (apart := engine.disaggregation) is not None:
        values["disaggregation"] = {
            "prefillReplicas": apart.prefill_replicas,
            "decodeReplicas": apart.decode_replicas,
            "localPrefillTokensMax": apart.local_prefill_tokens_max,
        }
    if engine.options:
        values["options"] = dict(engine.options)
    return values


def _parallelism(parallelism: Parallelism) -> Mapping:
    values: Mapping = {
        "tensor": parallelism.tensor,
        "pipeline": parallelism.pipeline,
        "expert": parallelism.expert,
    }
    if parallelism.attention_data_parallel:
        values["attentionDataParallel"] = True
    return values


def _resource(shape: ResourceShape) -> Mapping:
    values: Mapping = {"accelerator": shape.accelerator, "count": shape.accelerators}
    if shape.host_memory_bytes:
        values["hostMemory"] = format_bytes(shape.host_memory_bytes)
    if shape.throughput_tokens_per_second is not None:
        values["throughputTokensPerSecond"] = shape.throughput_tokens_per_second
    return values


def _scaling(scaling: Scaling) -> Mapping:
    return {
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "window": format_duration(scaling.window_seconds),
        "scaleDownDelay": format_duration(scaling.scale_down_delay_seconds),
        "concurrencyTarget": scaling.concurrency_target,
        "targetUtilization": scaling.target_utilization,
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
    return values


def _present(values: Mapping) -> Mapping:
    return {name: value for name, value in values.items() if value is not None}
