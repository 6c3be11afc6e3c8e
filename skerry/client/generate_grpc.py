"""One attempt at one gateway over gRPC `openengine.v1` Generate: a head, pieces and an end.

`skerry.client.inference` decides what to do when an attempt fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from skerry.api.openengine.v1.openengine_pb2_grpc import InferenceStub
from skerry.client.answer_head import REQUEST_ID_HEADER, read_head, read_retry_after
from skerry.client.continuing import continued_message
from skerry.client.gateways import (
    AttemptFailed,
    Cause,
    Emitted,
    End,
    Gateway,
    Items,
    Piece,
    Request,
)
from skerry.wire.refusals import REFUSAL_HEADER, RESIDENCY

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
_CAUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: Cause.REFUSED,
    grpc.StatusCode.ALREADY_EXISTS: Cause.REFUSED,
    grpc.StatusCode.UNAUTHENTICATED: Cause.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Cause.DENIED,
    grpc.StatusCode.NOT_FOUND: Cause.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Cause.EXHAUSTED,
}
_REASONS = {
    generation_pb2.FINISH_REASON_STOP: "stop",
    generation_pb2.FINISH_REASON_LENGTH: "length",
    generation_pb2.FINISH_REASON_CANCELLED: "cancelled",
}


def generate_request(request: Request, request_id: str) -> generation_pb2.GenerateRequest:
    """Return the message of a request."""
    message = generation_pb2.GenerateRequest(
        request_id=request_id, model=request.model, prompt=request.prompt
    )
    message.sampling.temperature = request.temperature
    message.stopping.max_tokens = request.max_tokens
    if request.ignore_eos:
        message.stopping.ignore_eos = True
    return message


async def ask_generate(
    channel: grpc.aio.Channel,
    gateway: Gateway,
    request: Request,
    request_id: str,
    metadata: Sequence[tuple[str, str]] = (),
    emitted: Emitted | None = None,
) -> Items:
    """Yield what comes as it comes; AttemptFailed when the answer does not come whole.

    With `emitted` only the rest is asked for.
    """
    message = generate_request(request, request_id)
    if emitted is not None:
        following = continued_message(message, emitted)
        if following is None:
            yield End(finish_reason="length")
            return
        message = following
    reason: str | None = None
    usage: generation_pb2.Usage | None = None
    has_begun = has_token = False
    call = _Stub(channel).Generate(message, metadata=((REQUEST_ID_HEADER, request_id), *metadata))
    try:
        async for answer in call:
            if not has_begun:
                has_begun = True
                yield read_head(_texts(await call.initial_metadata()), request_id)
            event = answer.WhichOneof("event")
            if event == "token":
                ids = tuple(token.token_id for token in answer.token.tokens)
                has_token = True
                yield Piece(answer.token.text, max(1, len(ids)), ids)
            elif event == "error":
                raise _engine_error(answer.error, has_token)
            elif event == "finished":
                reason = _REASONS.get(answer.finished.reason, "")
            usage = answer.usage if answer.HasField("usage") else usage
        trailers = _texts(await call.trailing_metadata())
    except grpc.RpcError as error:
        raise _status_error(gateway, error, has_begun) from None
    finally:
        call.cancel()
    if reason is None:
        text = f"{gateway.name}: the stream ended without an end"
        raise AttemptFailed(text, Cause.NO_END)
    end = _end(reason, usage)
    yield replace(end, head=read_head(trailers, request_id)) if trailers else end


def _end(reason: str, usage: generation_pb2.Usage | None) -> End:
    if usage is None:
        return End(finish_reason=reason)
    is_told = usage.HasField("cached_prompt_tokens")
    return End(
        finish_reason=reason,
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_prompt_tokens if is_told else None,
    )


def _texts(metadata: Any) -> Mapping[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _engine_error(error: error_pb2.EngineError, has_token: bool) -> AttemptFailed:
    name = error_pb2.ErrorCode.Name(error.code).removeprefix("ERROR_CODE_")
    is_final = error.code in _FINAL_ERRORS
    is_missing = error.code == error_pb2.ERROR_CODE_MODEL_NOT_FOUND
    cause = Cause.REFUSED if is_final else Cause.NOT_FOUND if is_missing else Cause.ENGINE
    return AttemptFailed(
        f"the engine says {name}: {error.message[:_ERROR_CHARS_MAX]}",
        cause,
        # Of a stream that had begun, a relay has said so after it tried all that may be asked.
        elsewhere=not is_final and (error.retryable or not has_token),
        cool_down=not is_missing,
    )


def _status_error(gateway: Gateway, error: Any, has_begun: bool) -> AttemptFailed:
    code: grpc.StatusCode = error.code()
    text = (error.details() or "")[:_ERROR_CHARS_MAX]
    # A refusal that is all of the answer has its headers among the trailers.
    if _texts(error.trailing_metadata()).get(REFUSAL_HEADER) == RESIDENCY:
        text = f"{gateway.name}: {code.name}: {text}"
        return AttemptFailed(text, Cause.RESIDENCY, cool_down=False)
    cause = _CAUSES.get(code, Cause.UNAVAILABLE)
    if cause is Cause.UNAVAILABLE and has_begun:
        cause = Cause.RESET
    return AttemptFailed(
        f"{gateway.name}: {code.name}: {text}",
        cause,
        elsewhere=code not in _FINAL_STATUSES,
        cool_down=code is not grpc.StatusCode.NOT_FOUND,
        retry_after_seconds=read_retry_after(_texts(error.trailing_metadata())),
    )
