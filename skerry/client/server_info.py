"""Who answers at an address that serves `openengine.v1`: Control/GetServerInfo, asked once."""

from dataclasses import dataclass
from typing import Any

import grpc.aio

from skerry.api.openengine.v1 import server_pb2
from skerry.api.openengine.v1.openengine_pb2_grpc import ControlStub
from skerry.plumbing.errors import Unavailable
from skerry.plumbing.rpc import insecure_channel

_Stub: Any = ControlStub  # generated code declares no types


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What a replica says of itself; empty is not told."""

    engine: str
    instance: str
    models: tuple[str, ...]


async def server_info(address: str, seconds_max: float) -> ServerInfo:
    """Return who answers at `HOST:PORT`; Unavailable when nobody does within the time."""
    async with insecure_channel(address) as channel:
        try:
            told = await _Stub(channel).GetServerInfo(
                server_pb2.GetServerInfoRequest(), timeout=seconds_max
            )
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"{address} does not say who it is: {error.code().name}") from None
    return ServerInfo(
        engine=told.engine_name, instance=told.instance_id, models=tuple(told.supported_models)
    )
