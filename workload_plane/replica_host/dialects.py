"""The port of a dialect: a request in the engine's own words, and its stream read back.

Pure. Implemented by `llamacpp_dialect`, `openai_dialect` and `vllm_dialect` (a module is a dialect)
and by the values in `sglang_dialect` and `trtllm_dialect`, picked by the engine's launch.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from skerry.api.openengine.v1 import generation_pb2, model_pb2
from workload_plane.engines.port import Dialect
from workload_plane.replica_host import (
    llamacpp_dialect,
    openai_dialect,
    sglang_dialect,
    trtllm_dialect,
    vllm_dialect,
)
from workload_plane.replica_host.deltas import Counted, EngineSaid


class StreamReader(Protocol):
    """Reads one stream; it counts along, so each stream has its own."""

    def read(self, event: bytes) -> list[EngineSaid]:
        """Return what one event says; raises ValueError when it is not the dialect's."""
        ...

    def counted_so_far(self) -> Counted | None:
        """Return the tokens of a stream that is cut short; None when the engine did not tell."""
        ...


class EngineDialect(Protocol):
    """One way of speaking with an engine."""

    @property
    def PATH(self) -> str:
        """Return the path of the engine's HTTP that requests are posted to."""
        ...

    def check(self, request: generation_pb2.GenerateRequest) -> None:
        """Raise RequestFault for a field that the engine cannot honour, naming it."""
        ...

    def body(self, request: generation_pb2.GenerateRequest, served_name: str) -> Mapping[str, Any]:
        """Return the body to post to PATH; the request has passed `check`."""
        ...

    def reader(self, request: generation_pb2.GenerateRequest) -> StreamReader:
        """Return the reader of the answer to that request."""
        ...

    def capabilities(self) -> model_pb2.GenerationCapabilities:
        """Return what Generate takes in this dialect."""
        ...


DIALECTS: Mapping[Dialect, EngineDialect] = MappingProxyType(
    {
        Dialect.LLAMACPP: llamacpp_dialect,
        Dialect.OPENAI: openai_dialect,
        Dialect.VLLM: vllm_dialect,
        Dialect.SGLANG: sglang_dialect.SGLANG,
        Dialect.SGLANG_0_5_9: sglang_dialect.SGLANG_0_5_9,
        Dialect.TRTLLM_SERVE: trtllm_dialect.TRTLLM_SERVE,
        Dialect.TRTLLM_SERVE_1_2: trtllm_dialect.TRTLLM_SERVE_1_2,
    }
)


def outputs_wanted(request: generation_pb2.GenerateRequest) -> int:
    """Return how many sequences the request asks for."""
    sampling = request.sampling
    return sampling.num_sequences if sampling.HasField("num_sequences") else 1
