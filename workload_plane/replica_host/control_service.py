"""`openengine.v1.Control` of one replica: identity, load, health, abort."""

from typing import Any

import grpc

from skerry.api.openengine.v1 import (
    kv_pb2,
    lifecycle_pb2,
    lora_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from workload_plane.engines.parsers import reasoning_parser, tool_parser
from workload_plane.replica_host.dialects import DIALECTS
from workload_plane.replica_host.faults import (
    invalid,
    model_not_found,
    not_offered,
    refuse,
    unsupported,
)
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState

Context = grpc.aio.ServicerContext[Any, Any]

# What the .proto files beside ours were written from.
_SCHEMA_RELEASE = "v0.1"
_NO_ADAPTERS = "this replica takes no adapters while it runs; name them in the deployment"
HEALTH_STATES = {
    HostState.STARTING: lifecycle_pb2.HEALTH_STATE_STARTING,
    HostState.READY: lifecycle_pb2.HEALTH_STATE_READY,
    HostState.UNHEALTHY: lifecycle_pb2.HEALTH_STATE_NOT_READY,
    HostState.RESTARTING: lifecycle_pb2.HEALTH_STATE_STARTING,
    HostState.CRASH_LOOPING: lifecycle_pb2.HEALTH_STATE_NOT_READY,
    HostState.DRAINING: lifecycle_pb2.HEALTH_STATE_DRAINING,
    HostState.STOPPED: lifecycle_pb2.HEALTH_STATE_NOT_READY,
    HostState.FAILED: lifecycle_pb2.HEALTH_STATE_NOT_READY,
}


class ControlService(openengine_pb2_grpc.ControlServicer):
    """Answers for the engine of one host."""

    def __init__(self, host: ReplicaHost) -> None:
        """Answer for that host."""
        self._host = host

    async def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: Context
    ) -> server_pb2.ServerInfo:
        """Return what this engine is."""
        spec = self._host.spec
        parallelism = spec.engine.parallelism
        return server_pb2.ServerInfo(
            engine_name=spec.engine.name.value,
            engine_version=spec.engine.version or "",
            engine_role=server_pb2.ENGINE_ROLE_AGGREGATED,
            instance_id=spec.name,
            supported_models=[spec.served_name],
            parallelism=server_pb2.ParallelismInfo(
                tensor_parallel_size=parallelism.tensor,
                pipeline_parallel_size=parallelism.pipeline,
                data_parallel_size=parallelism.data,
                data_parallel_rank=0,
            ),
            kv_connector=kv_pb2.KvConnectorInfo(enabled=False),
            schema_release=_SCHEMA_RELEASE,
            capacity=server_pb2.DeploymentCapacity(
                max_running_requests=spec.engine.concurrent_requests,
                max_loras=len(self._host.adapters),
            ),
        )

    async def GetModelInfo(
        self, request: model_pb2.GetModelInfoRequest, context: Context
    ) -> model_pb2.ModelInfo:
        """Return what the served base model can do; NOT_FOUND for another's name."""
        spec = self._host.spec
        if request.model not in ("", spec.served_name, *spec.aliases):
            await refuse(context, model_not_found(request.model, spec.served_name))
        # None where the engine is asked by a service of its own, and never by this one.
        dialect = DIALECTS.get(self._host.launch.dialect)
        generation = dialect.capabilities() if dialect else None
        if generation is not None:
            generation.max_num_sequences = spec.engine.concurrent_requests
        return model_pb2.ModelInfo(
            model_id=spec.model_path.rpartition("/")[2],
            served_model_name=spec.served_name,
            served_model_aliases=spec.aliases,
            max_context_length=spec.engine.context_tokens,
            max_output_tokens=spec.engine.context_tokens,
            supports_text_input=dialect is not None,
            supports_token_ids_input=dialect is not None,
            generation=generation,
            supports_lora=bool(self._host.adapters),
            supports_multimodal=False,
            tool_call_parser=tool_parser(spec.engine),
            reasoning_parser=reasoning_parser(spec.engine),
        )

    async def GetLoad(
        self, request: server_pb2.GetLoadRequest, context: Context
    ) -> server_pb2.LoadInfo:
        """Return how busy the engine is, over gRPC and HTTP together; unset is not known."""
        load = await self._host.engine.load()
        now = int(self._host.clock.now().timestamp() * 1e9)
        info = server_pb2.LoadInfo(
            instance_id=self._host.spec.name,
            timestamp_unix_nanos=now,
            running_requests=load.running_requests,
            queued_requests=load.queued_requests,
        )
        if request.include_per_rank:
            info.ranks.add(
                data_parallel_rank=0,
                running_requests=load.running_requests,
                queued_requests=load.queued_requests,
            )
        return info

    async def Health(
        self, request: lifecycle_pb2.HealthRequest, context: Context
    ) -> lifecycle_pb2.HealthResponse:
        """Return the replica's health; with a probe wanted, the engine is asked now."""
        host = self._host
        if request.model not in ("", host.spec.served_name, *host.spec.aliases):
            await refuse(context, model_not_found(request.model, host.spec.served_name))
        state = HEALTH_STATES[host.health.state]
        check = lifecycle_pb2.HealthCheck(name="engine", state=state, message=host.message)
        response = lifecycle_pb2.HealthResponse(state=state, checks=[check])
        if request.include_inference_probe and host.health.serving:
            answered = await host.engine.probe()
            probe = response.checks.add(name="probe", state=state)
            if not answered:
                probe.state = response.state = lifecycle_pb2.HEALTH_STATE_NOT_READY
                probe.message = "the engine does not answer"
        return response

    async def Abort(
        self, request: lifecycle_pb2.AbortRequest, context: Context
    ) -> lifecycle_pb2.AbortResponse:
        """End requests under way; one that is not known counts as finished."""
        match request.WhichOneof("target"):
            case "all_requests":
                ended = self._host.flights.abort_all()
            case "request_id":
                ended = int(self._host.flights.abort(request.request_id))
            case None:
                await refuse(context, invalid("target", "name a request_id or all_requests"))
            case target:
                await refuse(context, unsupported(target, "name a request_id or all_requests"))
        if ended:
            return lifecycle_pb2.AbortResponse(
                status=lifecycle_pb2.ABORT_STATUS_ABORTED, message=f"{ended} ended"
            )
        return lifecycle_pb2.AbortResponse(
            status=lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED, message="nothing to end"
        )

    async def ListLoras(
        self, request: lora_pb2.ListLorasRequest, context: Context
    ) -> lora_pb2.ListLorasResponse:
        """Return the adapters that the engine was started with and a request may name."""
        names = enumerate(self._host.adapters, start=1)
        return lora_pb2.ListLorasResponse(
            adapters=[
                lora_pb2.LoraAdapter(lora_id=number, lora_name=name) for number, name in names
            ]
        )

    async def LoadLora(
        self, request: lora_pb2.LoadLoraRequest, context: Context
    ) -> lora_pb2.LoadLoraResponse:
        """Refuse: replicas take no adapters."""
        await not_offered(context, _NO_ADAPTERS)

    async def UnloadLora(
        self, request: lora_pb2.UnloadLoraRequest, context: Context
    ) -> lora_pb2.UnloadLoraResponse:
        """Refuse: replicas take no adapters."""
        await not_offered(context, _NO_ADAPTERS)

    async def GetKvEventSources(
        self, request: kv_pb2.GetKvEventSourcesRequest, context: Context
    ) -> kv_pb2.GetKvEventSourcesResponse:
        """Return no sources: the engine's KV events are not passed on."""
        return kv_pb2.GetKvEventSourcesResponse()

    async def SubscribeKvEvents(
        self, request: kv_pb2.SubscribeKvEventsRequest, context: Context
    ) -> None:
        """Refuse: the engine's KV events are not passed on."""
        await not_offered(context, "this replica publishes no key-value cache events")
