"""What the plane answers as one large engine, from what its replicas said: PURE.

Sums where replicas count different work; what no replica told stays unset, never zero.
"""

from collections.abc import Iterable, Sequence

from skerry.api.openengine.v1 import lifecycle_pb2, model_pb2, server_pb2
from workload_plane.front.endpoints import Endpoints, Model

ENGINE_NAME = "skerry-plane"
# Counts of LoadInfo that add up over replicas.
_SUMMED = (
    "running_requests",
    "queued_requests",
    "active_kv_sessions",
    "used_kv_blocks",
    "total_kv_blocks",
    "running_tokens",
    "waiting_tokens",
    "prefill_batch_size",
    "decode_batch_size",
)


def total_load(plane: str, loads: Iterable[server_pb2.LoadInfo]) -> server_pb2.LoadInfo:
    """Return the plane's load: the sum of what its replicas told, without their ranks."""
    total = server_pb2.LoadInfo(instance_id=plane)
    for load in loads:
        for name in _SUMMED:
            if load.HasField(name):
                setattr(total, name, getattr(total, name) + getattr(load, name))
        if load.HasField("timestamp_unix_nanos"):
            oldest = load.timestamp_unix_nanos
            if total.HasField("timestamp_unix_nanos"):
                oldest = min(oldest, total.timestamp_unix_nanos)
            total.timestamp_unix_nanos = oldest
    return total


def server_info(
    endpoints: Endpoints, infos: Sequence[server_pb2.ServerInfo], software: str
) -> server_pb2.ServerInfo:
    """Return the plane as one server; capacity is the sum of its replicas'."""
    info = server_pb2.ServerInfo(
        engine_name=ENGINE_NAME,
        engine_version=software,
        engine_role=server_pb2.ENGINE_ROLE_AGGREGATED,
        instance_id=endpoints.plane,
        supported_models=endpoints.served_names,
    )
    running = [
        one.capacity.max_running_requests
        for one in infos
        if one.capacity.HasField("max_running_requests")
    ]
    if running:
        info.capacity.max_running_requests = sum(running)
    if infos:
        info.schema_revision = min(one.schema_revision for one in infos)
        info.minimum_client_revision = max(one.minimum_client_revision for one in infos)
        info.schema_release = infos[0].schema_release
    return info


def model_info(model: Model, told: Sequence[model_pb2.ModelInfo]) -> model_pb2.ModelInfo:
    """Return a model as a replica tells it, or, with none here, as the deployment promises it."""
    if told:
        info = model_pb2.ModelInfo()
        info.CopyFrom(told[0])
        info.served_model_name = model.served_name
        return info
    return model_pb2.ModelInfo(
        model_id=model.base_model,
        served_model_name=model.served_name,
        max_context_length=model.context_tokens,
        supports_text_input=True,
    )


def plane_health(
    models: Sequence[Model], states: Sequence[tuple[str, int]]
) -> lifecycle_pb2.HealthResponse:
    """Return the health of the models asked about, one check for each of their replicas.

    READY when every model has a READY replica here, DEGRADED when only some have, NOT_READY when
    none has (peers may serve all the same).
    """
    ready = lifecycle_pb2.HEALTH_STATE_READY
    by_name = dict(states)
    serving = [
        any(by_name.get(replica.name) == ready for replica in model.replicas) for model in models
    ]
    if serving and all(serving):
        state = lifecycle_pb2.HEALTH_STATE_READY
    elif any(serving):
        state = lifecycle_pb2.HEALTH_STATE_DEGRADED
    else:
        state = lifecycle_pb2.HEALTH_STATE_NOT_READY
    response = lifecycle_pb2.HealthResponse(state=state)
    for model in models:
        for replica in model.replicas:
            known = by_name.get(replica.name, lifecycle_pb2.HEALTH_STATE_UNSPECIFIED)
            message = "" if replica.name in by_name else "no answer"
            response.checks.add(name=replica.name, message=message).state = known  # type: ignore[assignment]
    return response


def abort_answer(answers: Sequence[lifecycle_pb2.AbortResponse]) -> lifecycle_pb2.AbortResponse:
    """Return ABORTED when one replica aborted something, else that it had finished already."""
    aborted = [a for a in answers if a.status == lifecycle_pb2.ABORT_STATUS_ABORTED]
    if aborted:
        return aborted[0]
    return lifecycle_pb2.AbortResponse(
        status=lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED,
        message="no replica of this plane works on it",
    )
