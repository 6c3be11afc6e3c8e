"""Which HTTP requests are let through to the operator API, before a byte of the body is read.

Pure; `http_bridge.py` asks. The port has no authentication and trusts loopback, so a web page in
an operator's browser must not reach it: no simple request, no foreign page, no rebound name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from connectrpc.code import Code
from multidict import CIMultiDictProxy

from skerry.plumbing.rpc import MESSAGE_BYTES_MAX

# What settings.py takes for an operator port that is plaintext, as this is.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
UNARY_TYPE = "application/json"
STREAM_TYPE = "application/connect+json"
# Envelope and white space; the message itself is measured by the Connect library.
_BODY_BYTES_MAX = MESSAGE_BYTES_MAX + 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the guard looks at; `is_stream` is None where there is no such method."""

    method: str
    is_stream: bool | None
    headers: CIMultiDictProxy[str]
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request goes no further."""

    status: HTTPStatus
    code: Code
    message: str


def is_loopback(host: str) -> bool:
    """Say whether a host, as in `host:port`, is this machine alone."""
    return host in LOOPBACK_HOSTS


def refusal_of(asked: Asked) -> Refusal | None:
    """Return the first reason to refuse a request, None when it may go on."""
    return next((refusal for is_so, refusal in _RULES if is_so(asked)), None)


def _is_unreadable(asked: Asked) -> bool:
    try:
        for _, value in asked.raw_headers:
            value.decode()
    except UnicodeDecodeError:
        return True
    return False


def _is_of_a_strange_host(asked: Asked) -> bool:
    named = asked.headers.getall("Host", [])
    return len(named) != 1 or not is_loopback(_without_port(named[0]))


def _is_of_a_strange_page(asked: Asked) -> bool:
    own = f"http://{asked.headers.get('Host', '')}"
    if any(origin != own for origin in asked.headers.getall("Origin", [])):
        return True
    sites = asked.headers.getall("Sec-Fetch-Site", [])
    return any(site not in ("none", "same-origin") for site in sites)


def _is_no_method(asked: Asked) -> bool:
    return asked.is_stream is None


def _is_no_post(asked: Asked) -> bool:
    return asked.method != "POST"


def _is_of_another_type(asked: Asked) -> bool:
    wanted = STREAM_TYPE if asked.is_stream else UNARY_TYPE
    told = asked.headers.getall("Content-Type", [])
    return len(told) != 1 or told[0].partition(";")[0].strip().lower() != wanted


def _is_encoded(asked: Asked) -> bool:
    told = asked.headers.getall("Content-Encoding", [])
    told += asked.headers.getall("Connect-Content-Encoding", [])
    return any(encoding.strip().lower() not in ("", "identity") for encoding in told)


def _is_too_large(asked: Asked) -> bool:
    length = asked.headers.get("Content-Length", "0")
    return not length.isdecimal() or int(length[:20]) > _BODY_BYTES_MAX


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


# In this order: who may ask, what is asked, how it is asked. The first that is so wins.
_RULES: tuple[tuple[Callable[[Asked], bool], Refusal], ...] = (
    (
        _is_unreadable,
        Refusal(
            status=HTTPStatus.BAD_REQUEST,
            code=Code.INVALID_ARGUMENT,
            message="a header is not UTF-8",
        ),
    ),
    (
        _is_of_a_strange_host,
        Refusal(
            status=HTTPStatus.FORBIDDEN,
            code=Code.PERMISSION_DENIED,
            message="the Host header must name this machine's loopback: 127.0.0.1, localhost or"
            " [::1]",
        ),
    ),
    (
        _is_of_a_strange_page,
        Refusal(
            status=HTTPStatus.FORBIDDEN,
            code=Code.PERMISSION_DENIED,
            message="pages of other origins may not call this API",
        ),
    ),
    (
        _is_no_method,
        Refusal(
            status=HTTPStatus.NOT_FOUND,
            code=Code.UNIMPLEMENTED,
            message="no such method; the path is /PACKAGE.SERVICE/METHOD, as in"
            " /skerry.api.operator.v1.OperatorService/ListPlanes",
        ),
    ),
    (
        _is_no_post,
        Refusal(
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            code=Code.UNIMPLEMENTED,
            message="every method is called by POST",
        ),
    ),
    (
        _is_of_another_type,
        Refusal(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            code=Code.INVALID_ARGUMENT,
            message=f"send Content-Type: {UNARY_TYPE}, to a method that streams {STREAM_TYPE}",
        ),
    ),
    (
        _is_encoded,
        Refusal(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            code=Code.INVALID_ARGUMENT,
            message="send the body as it is, without Content-Encoding",
        ),
    ),
    (
        _is_too_large,
        Refusal(
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            code=Code.RESOURCE_EXHAUSTED,
            message=f"the body is larger than {MESSAGE_BYTES_MAX} bytes",
        ),
    ),
)
