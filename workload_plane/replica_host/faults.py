"""Requests that are refused before they are accepted: the code, and how it travels.

A refusal is a non-OK gRPC status. The contract's own code goes along in the status details, so
that a client need not read the message.
"""

from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.rpc.status_pb2 import Status

from skerry.api.openengine.v1 import error_pb2

ErrorCode = error_pb2.ErrorCode

_DETAILS_KEY = "grpc-status-details-bin"
_STATUS = {
    error_pb2.ERROR_CODE_INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    # Not UNIMPLEMENTED, which is a method's: Dynamo takes a worker that answers a request so for
    # broken and sends it nothing for a while, and clients ask every other gateway in vain.
    error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE: grpc.StatusCode.INVALID_ARGUMENT,
    error_pb2.ERROR_CODE_ROLE_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_CODE_MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    error_pb2.ERROR_CODE_OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    error_pb2.ERROR_CODE_DUPLICATE_REQUEST: grpc.StatusCode.ALREADY_EXISTS,
    error_pb2.ERROR_CODE_DRAINING: grpc.StatusCode.UNAVAILABLE,
}


@dataclass(eq=False, kw_only=True)
class RequestFault(Exception):
    """Why a request is refused; `retryable` says that another replica may take it."""

    code: ErrorCode
    message: str
    retryable: bool = False

    def __str__(self) -> str:
        return self.message


def invalid(field: str, message: str) -> RequestFault:
    """Return the fault of a field with a value that no engine takes."""
    return RequestFault(code=error_pb2.ERROR_CODE_INVALID_ARGUMENT, message=f"{field}: {message}")


def unsupported(field: str, message: str) -> RequestFault:
    """Return the fault of a field that this engine cannot honour."""
    return RequestFault(
        code=error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE,
        message=f"UNSUPPORTED_FEATURE: {field}: {message}",
    )


def model_not_found(model: str, served: str) -> RequestFault:
    """Return the fault of a served name that is another's."""
    return RequestFault(
        code=error_pb2.ERROR_CODE_MODEL_NOT_FOUND,
        message=f"model {model[:200]!r} is not served here; served is {served!r}",
    )


def unavailable(message: str) -> RequestFault:
    """Return the fault of an engine that cannot take the request now; another one may."""
    return RequestFault(code=error_pb2.ERROR_CODE_INTERNAL, message=message, retryable=True)


def status_code(fault: RequestFault) -> grpc.StatusCode:
    """Return the gRPC code that the fault travels as."""
    otherwise = grpc.StatusCode.UNAVAILABLE if fault.retryable else grpc.StatusCode.INTERNAL
    return _STATUS.get(fault.code, otherwise)


def engine_error(fault: RequestFault) -> error_pb2.EngineError:
    """Return the fault as the contract's message."""
    return error_pb2.EngineError(code=fault.code, message=fault.message, retryable=fault.retryable)


async def not_offered(context: "grpc.aio.ServicerContext[Any, Any]", what: str) -> NoReturn:
    """End a call of a method that no replica has; never returns."""
    await refuse(context, unsupported("method", what), grpc.StatusCode.UNIMPLEMENTED)


async def refuse(
    context: "grpc.aio.ServicerContext[Any, Any]",
    fault: RequestFault,
    code: grpc.StatusCode | None = None,
) -> NoReturn:
    """End the request with the fault's status, or that one; never returns."""
    code = code or status_code(fault)
    status = Status(code=code.value[0], message=fault.message)
    status.details.add().Pack(engine_error(fault))
    await context.abort(code, fault.message, ((_DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort raises")
