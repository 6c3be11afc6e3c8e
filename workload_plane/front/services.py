"""openengine.v1 for the plane as a whole: Control, and the answer to unknown models.

The gateway sends Control here and Generate to the replicas; Generate arrives here only when its
model is missing or not served.
"""

from typing import Any, NoReturn

import grpc

from skerry.api.openengine.v1 import (
    generation_pb2,
    lifecycle_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from skerry.plumbing.errors import Denied, InvalidInput, NotFound
from workload_plane.front.answers import (
    abort_answer,
    model_info,
    plane_health,
    server_info,
    total_load,
)
from workload_plane.front.endpoints import Endpoints, EndpointsWatch, Model
from workload_plane.front.fan_out import Channels

NAMES_SHOWN_MAX = 50  # of the models served, in an error: a message over 1 KiB is cut


class PlaneControl(openengine_pb2_grpc.ControlServicer):
    """Control of the plane as one large engine."""

    def __init__(self, watch: EndpointsWatch, channels: Channels, software: str) -> None:
        """Answer from what `watch` shows and the replicas say."""
        self._watch = watch
        self._channels = channels
        self._software = software

    async def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: Any
    ) -> server_pb2.ServerInfo:
        """Return the plane's name, its models and the capacity of its replicas together."""
        endpoints = self._watch.current
        told = await self._channels.ask_all(
            endpoints.replicas, lambda stub: stub.GetServerInfo, request
        )
        return server_info(endpoints, [info for _, info in told], self._software)

    async def GetModelInfo(
        self, request: model_pb2.GetModelInfoRequest, context: Any
    ) -> model_pb2.ModelInfo:
        """Return one model's facts; without a name, of the only model that is served."""
        model = _the_model(self._watch.current, request.model)
        asked = model_pb2.GetModelInfoRequest(model=model.served_name)
        told = await self._channels.ask_all(
            model.replicas[:1], lambda stub: stub.GetModelInfo, asked
        )
        return model_info(model, [info for _, info in told])

    async def GetLoad(
        self, request: server_pb2.GetLoadRequest, context: Any
    ) -> server_pb2.LoadInfo:
        """Return the load of all local replicas together."""
        asked = server_pb2.GetLoadRequest()
        endpoints = self._watch.current
        told = await self._channels.ask_all(endpoints.replicas, lambda stub: stub.GetLoad, asked)
        return total_load(endpoints.plane, [load for _, load in told])

    async def Health(
        self, request: lifecycle_pb2.HealthRequest, context: Any
    ) -> lifecycle_pb2.HealthResponse:
        """Return the health of one model, or of all."""
        endpoints = self._watch.current
        models = (_the_model(endpoints, request.model),) if request.model else endpoints.models
        replicas = [replica for model in models for replica in model.replicas]
        asked = lifecycle_pb2.HealthRequest(include_inference_probe=request.include_inference_probe)
        told = await self._channels.ask_all(replicas, lambda stub: stub.Health, asked)
        return plane_health(models, [(replica.name, answer.state) for replica, answer in told])

    async def Abort(
        self, request: lifecycle_pb2.AbortRequest, context: Any
    ) -> lifecycle_pb2.AbortResponse:
        """Abort the request at whichever replica works on it; nothing wider, as anyone may ask."""
        match request.WhichOneof("target"):
            case "request_id":
                told = await self._channels.ask_all(
                    self._watch.current.replicas, lambda stub: stub.Abort, request
                )
                return abort_answer([answer for _, answer in told])
            case "all_requests":
                # The gateway's public port leads here without a key.
                raise Denied(
                    "all_requests would end the requests of other users of the plane; name one"
                    " request_id, or ask a replica's own gRPC address, as `skerry get replicas`"
                    " shows it"
                )
            case "kv_session":
                await context.abort(
                    grpc.StatusCode.UNIMPLEMENTED,
                    "no replica of this plane keeps kv_session; name a request_id",
                )
        raise InvalidInput("give a request_id as the target", field="target")

    async def LoadLora(self, request: Any, context: Any) -> Any:
        """Refuse: adapters belong to a deployment's revision."""
        await _unimplemented(context, "LoRA adapters")

    async def UnloadLora(self, request: Any, context: Any) -> Any:
        """Refuse: adapters belong to a deployment's revision."""
        await _unimplemented(context, "LoRA adapters")

    async def ListLoras(self, request: Any, context: Any) -> Any:
        """Refuse: adapters belong to a deployment's revision."""
        await _unimplemented(context, "LoRA adapters")

    async def GetKvEventSources(self, request: Any, context: Any) -> Any:
        """Refuse: key-value cache events are of one replica, not of a plane."""
        await _unimplemented(context, "key-value cache events")

    async def SubscribeKvEvents(self, request: Any, context: Any) -> Any:
        """Refuse: key-value cache events are of one replica, not of a plane."""
        await _unimplemented(context, "key-value cache events")


class PlaneInference(openengine_pb2_grpc.InferenceServicer):
    """What is left of Generate when the gateway found no replica for the model."""

    def __init__(self, watch: EndpointsWatch) -> None:
        """Answer from what `watch` shows."""
        self._watch = watch

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Any) -> NoReturn:
        """Refuse with the names that are served."""
        raise _unknown(self._watch.current, request.model)


def _the_model(endpoints: Endpoints, name: str) -> Model:
    if not name and len(endpoints.models) == 1:
        return endpoints.models[0]
    model = endpoints.model(name)
    if model is None:
        raise _unknown(endpoints, name)
    return model


def _unknown(endpoints: Endpoints, name: str) -> NotFound:
    names = endpoints.served_names
    shown = ", ".join(names[:NAMES_SHOWN_MAX]) or "none yet"
    what = f"model {name[:200]!r} is not served here" if name else "the request names no model"
    return NotFound(f"{what}; served by plane {endpoints.plane}: {shown}", field="model")


async def _unimplemented(context: Any, what: str) -> NoReturn:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        f"a plane does not offer {what}; ask a replica's own gRPC address, as"
        " `skerry get replicas` shows it",
    )
    raise AssertionError("abort returns never")
