"""What gRPC answered, or what is wrong with a request's JSON, as errors of the Connect protocol.

Code, message and details are those of `skerry.plumbing.rpc`; nothing is decided here.
"""

import json
from typing import Any

import grpc
from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from google.protobuf import any_pb2, json_format
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as ConnectAny
from protobuf.wkt import Struct

from skerry.plumbing.errors import SkerryError
from skerry.plumbing.rpc import code_of, to_status

_DETAILS_KEY = "grpc-status-details-bin"


class _ReadableDetail(ErrorDetail):
    """A detail that also says in JSON what it holds, as Connect's `debug`.

    Inherits, because the library asks a detail for its value and has no other way to be told:
    it writes `debug` for messages of its own Protobuf runtime only, and ours are Google's.
    """

    def __init__(self, detail: any_pb2.Any) -> None:
        """Keep the bytes as they are, and what they say if their type is known here."""
        super().__init__(ConnectAny(type_url=detail.type_url, value=detail.value))
        self._readable: Struct | None = None
        try:
            told = json_format.MessageToDict(detail)
        except (TypeError, DecodeError):
            return  # a type unknown here travels as bytes alone
        told.pop("@type", None)
        self._readable = Struct.from_json(json.dumps(told))

    def value(self, *_: object) -> Any:
        """Return what is shown as `debug`."""
        return self._readable


def connect_error_of_call(error: grpc.aio.AioRpcError) -> ConnectError:
    """Return the very status that a gRPC call ended with."""
    status = Status()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status = Status.FromString(value)
    return _connect_error(error.code(), error.details() or error.code().name, status)


def connect_error(error: SkerryError) -> ConnectError:
    """Return the status that a kind of error travels as."""
    status = to_status(error)
    return _connect_error(code_of(error), status.message, status)


def connect_code(code: grpc.StatusCode) -> Code:
    """Return Connect's code of the same meaning."""
    if code is grpc.StatusCode.CANCELLED:
        return Code.CANCELED
    return Code(code.name.lower())


def _connect_error(code: grpc.StatusCode, message: str, status: Status) -> ConnectError:
    details = [_ReadableDetail(detail) for detail in status.details]
    return ConnectError(connect_code(code), message, details)
