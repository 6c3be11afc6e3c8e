"""The operator API's methods on a real gRPC server on loopback, answering what a test says.

Lists are filtered as the control plane filters them; what no test says is answered empty.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from control_plane.api.filters import parse_filter
from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    operations_service_pb2,
    operator_service_pb2,
)
from skerry.cli.main import run
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.rpc import code_of

METHODS = {
    method.name: method
    for file in (operator_service_pb2, catalogue_service_pb2, operations_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
THREADS = 4  # a stream that is still told holds one

# A message, the messages of a stream, a refusal, or what makes one of these.
Answer = Message | Iterable[Message] | SkerryError | Callable[[Any, Any], Any]


class OperatorApi(grpc.GenericRpcHandler):
    """Answers by method name, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Any]] = []
        self.endpoint = ""

    def run(self, *arguments: str) -> int:
        """Run the command line against this API."""
        return run([*arguments, "--endpoint", self.endpoint])

    def asked_of(self, method: str) -> list[Any]:
        """Return the requests of one method."""
        return [request for name, request in self.asked if name == method]

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        method = METHODS[name]
        codec = (GetMessageClass(method.input_type).FromString, lambda m: m.SerializeToString())
        if method.server_streaming:

            def stream(request: Any, context: Any) -> Iterator[Message]:
                yield from self._answer(name, request, context)

            return grpc.unary_stream_rpc_method_handler(stream, *codec)

        def answer(request: Any, context: Any) -> Message:
            answer = self._answer(name, request, context)
            assert isinstance(answer, Message)
            return _filtered(answer, getattr(request, "filter", ""))

        return grpc.unary_unary_rpc_method_handler(answer, *codec)

    def _answer(self, name: str, request: Any, context: Any) -> Any:
        self.asked.append((name, request))
        empty = GetMessageClass(METHODS[name].output_type)()
        told = self.answers.get(name, empty)
        answer = told(request, context) if callable(told) else told
        if isinstance(answer, SkerryError):
            context.abort(code_of(answer), answer.message)
        return answer


def _filtered(answer: Message, text: str) -> Message:
    if not text:
        return answer
    field = next(field for field in answer.DESCRIPTOR.fields if field.is_repeated)
    item: Any = field.message_type
    passes = parse_filter(text, GetMessageClass(item))
    kept = type(answer)()
    getattr(kept, field.name).extend(m for m in getattr(answer, field.name) if passes(m))
    return kept


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperatorApi]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SKERRY_CONFIG", "SKERRY_ENDPOINT", "SKERRY_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    handler = OperatorApi()
    with ThreadPoolExecutor(THREADS) as threads:
        server = grpc.server(threads, handlers=[handler])
        handler.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield handler
        server.stop(None).wait()
