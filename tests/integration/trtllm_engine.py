"""An engine that serves `trtllm.TrtllmService`: what stands on the PATH for `trtllm-serve --grpc`.

No accelerator is here for TensorRT-LLM. This program takes the same words and speaks the same
protocol as its servicer: tokens only, deltas and then all of them, errors as statuses, a cancelled
stream ends its work. The schema is compiled from `trtllm_service.proto` when a process needs it.
"""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, message_factory

from skerry.fleet.engine import EngineName, EngineProtocol, EngineSpec

_ROOT = Path(__file__).parents[2]
_PROTO = Path(__file__).with_name("trtllm_service.proto")
SERVICE = "trtllm.TrtllmService"
PREFIX = f"/{SERVICE}/"
# As the simulated engine beside it in other tests; long enough to be met in the middle.
TOKEN_SECONDS = 0.02
# Answers count up from here: past the bytes, so that whoever knows the vocabulary has text at once.
FIRST_ID = 300
STOP_SECONDS = 5.0  # as TensorRT-LLM has it


@functools.cache
def messages() -> dict[str, Any]:
    """Return the service's message types by their names without the package.

    In a process of its own: the compiler's protobuf beside OR-Tools' ended the whole test worker.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "set.bin"
        include = resources.files("grpc_tools") / "_proto"
        paths = [f"-I{_PROTO.parent}", f"-I{include}", f"--descriptor_set_out={out}", str(_PROTO)]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *paths], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return {
        name.removeprefix("trtllm."): kind
        for name, kind in message_factory.GetMessages(files).items()
    }


def call(channel: Any, method: str) -> Any:
    """Return the callable of a method on a channel of the service."""
    kinds = messages()
    is_stream = method == "Generate"
    answer = "GenerateResponse" if is_stream else f"{method}Response"
    kind = channel.unary_stream if is_stream else channel.unary_unary
    return kind(
        PREFIX + method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=kinds[answer].FromString,
    )


def a_request(request_id: str, tokens: int, *, streaming: bool = True) -> Any:
    """Return a Generate request for so many tokens after a prompt of three."""
    kinds = messages()
    return kinds["GenerateRequest"](
        request_id=request_id,
        tokenized=kinds["TokenizedInput"](input_token_ids=[1, 2, 300]),
        max_tokens=tokens,
        streaming=streaming,
        ignore_eos=True,
    )


def a_trtllm_engine() -> EngineSpec:
    """Return the engine of a deployment with `protocol: trtllm`."""
    return EngineSpec(
        name=EngineName.TENSORRT_LLM,
        version="1.4",
        protocol=EngineProtocol.TRTLLM,
        context_tokens=512,
        concurrent_requests=2,
    )


def put_on_path(directory: Path) -> str:
    """Write `trtllm-serve` into the directory and return a PATH that has it first."""
    directory.mkdir(parents=True)
    program = directory / "trtllm-serve"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(_ROOT)!r})\n"
        "from tests.integration.trtllm_engine import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    program.chmod(0o700)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


class Servicer(grpc.GenericRpcHandler):
    """Answers with tokens that count up; requests under way are known by their ids."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._aborts: dict[str, asyncio.Event] = {}
        self._kinds = messages()
        self._methods = {
            "HealthCheck": self._health,
            "Abort": self._abort,
            "GetModelInfo": self._model_info,
        }

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.removeprefix(PREFIX)
        if name not in ("Generate", *self._methods):
            return None
        coders = {
            "request_deserializer": self._kinds[f"{name}Request"].FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if name == "Generate":
            return grpc.unary_stream_rpc_method_handler(self._generate, **coders)
        return grpc.unary_unary_rpc_method_handler(self._methods[name], **coders)

    async def _generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if not request.HasField("tokenized"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Missing tokenized input")
        aborted = self._aborts[request.request_id] = asyncio.Event()
        ids: list[int] = []
        prompt = len(request.tokenized.input_token_ids)
        try:
            while len(ids) < request.max_tokens and not aborted.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(aborted.wait(), TOKEN_SECONDS)
                ids.append(FIRST_ID + len(ids))
                if request.streaming:
                    chunk = self._kinds["GenerateStreamChunk"](
                        token_ids=ids[-1:], prompt_tokens=prompt, completion_tokens=len(ids)
                    )
                    yield self._answer(request, chunk=chunk)
            complete = self._kinds["GenerateComplete"](
                output_token_ids=ids,
                finish_reason="cancelled" if aborted.is_set() else "length",
                prompt_tokens=prompt,
                completion_tokens=len(ids),
            )
            yield self._answer(request, complete=complete)
        finally:
            del self._aborts[request.request_id]

    def _answer(self, request: Any, **fields: Any) -> Any:
        return self._kinds["GenerateResponse"](request_id=request.request_id, **fields)

    async def _health(self, request: Any, context: Any) -> Any:
        return self._kinds["HealthCheckResponse"](status="OK")

    async def _abort(self, request: Any, context: Any) -> Any:
        event = self._aborts.get(request.request_id)
        if event is not None:
            event.set()
        return self._kinds["AbortResponse"](success=event is not None)

    async def _model_info(self, request: Any, context: Any) -> Any:
        return self._kinds["GetModelInfoResponse"](model_id=self._model, max_seq_len=512)


async def _serve(said: dict[str, str]) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Servicer(said["--served_model_name"]),))
    server.add_insecure_port(f"{said['--host']}:{said['--port']}")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(STOP_SECONDS)


def main(argv: list[str]) -> int:
    """Serve as `serve MODEL --host H --port P --served_model_name NAME … --grpc …` says."""
    verb, _, *rest = argv
    assert verb == "serve"
    said = dict(pairwise(rest))
    assert "--grpc" in rest
    assert "--grpc-protocol" not in rest  # of TensorRT-LLM's two protocols this is the default
    asyncio.run(_serve(said))
    return 0
