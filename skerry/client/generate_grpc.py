"""One attempt at one gateway over gRPC `openengine.v1` Generate, as pieces of text.

`skerry.client.inference` decides what to do when an attempt fails.
"""

from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from skerry.api.openengine.v1.openengine_pb2_grpc import InferenceStub
from skerry.client.gateways import AttemptFailed, Gateway, Request

_Stub: Any = InferenceStub  # generated code declares no types
_ERROR_CHARS_MAX = 300

# What is wrong with the request itself is wrong at every gateway.
_FINAL_STATUSES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.ALREADY_EXISTS,
    }
)
_FINAL_ERRORS = frozenset(
    {
        error_pb2.ERROR_CODE_INVALID_ARGUMENT,
        error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE,
        error_pb2.ERROR_CODE_DUPLICATE_REQUEST,
    }
)


async def ask_generate(
    channel: grpc.aio.Channel, gateway: Gateway, request: Request, request_id: str
) -> AsyncGenerator[tuple[str, int], None]:
    """Yield (text, tokens) as they come; AttemptFailed when the answer does not come whole."""
    message = generation_pb2.GenerateRequest(
        request_id=request_id, model=request.model, prompt=request.prompt
    )
    message.sampling.temperature = request.temperature
    message.stopping.max_tokens = request.max_tokens
    is_finished = False
    call = _Stub(channel).Generate(message)
    try:
        async for answer in call:
            event = answer.WhichOneof("event")
            if event == "token":
                yield answer.token.text, max(1, len(answer.token.tokens))
            elif event == "error":
                raise _engine_error(answer.error)
            is_finished = is_finished or event == "finished"
    except grpc.RpcError as error:
        raise _status_error(gateway, error) from None
    finally:
        call.cancel()
    if not is_finished:
        raise AttemptFailed(f"{gateway.name}: the stream ended without an end")


def _engine_error(error: error_pb2.EngineError) -> AttemptFailed:
    name = error_pb2.ErrorCode.Name(error.code).removeprefix("ERROR_CODE_")
    return AttemptFailed(
        f"the engine says {name}: {error.message[:_ERROR_CHARS_MAX]}",
        elsewhere=error.code not in _FINAL_ERRORS,
        cool_down=error.code != error_pb2.ERROR_CODE_MODEL_NOT_FOUND,
    )


def _status_error(gateway: Gateway, error: Any) -> AttemptFailed:
    code: grpc.StatusCode = error.code()
    text = (error.details() or "")[:_ERROR_CHARS_MAX]
    return AttemptFailed(
        f"{gateway.name}: {code.name}: {text}",
        elsewhere=code not in _FINAL_STATUSES,
        cool_down=code is not grpc.StatusCode.NOT_FOUND,
    )
