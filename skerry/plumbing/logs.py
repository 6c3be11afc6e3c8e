"""Structured logs: an event, its fields, and the context they happened in.

`get_logger` is called at module level by anyone, `configure` once by a composition root. One
line each, key=value or JSON, and nothing a stranger sent can start a second line.
"""

import contextlib
import contextvars
import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, Self, TextIO

Format = Literal["text", "json"]

# A prompt or a page of HTML in a field would drown the line; the start says what it was.
FIELD_CHARS_MAX = 2_000
# Deep asyncio stacks are long and end with what matters, so the end is kept.
TRACEBACK_CHARS_MAX = 16_000

# C0, DEL, C1 (ANSI escapes), line separators, and the marks that turn text around.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PLAIN = re.compile(r"[^\s\"=\\]+")
_NO_FIELDS: Mapping[str, object] = MappingProxyType({})
_context: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar(
    "log_context", default=_NO_FIELDS
)


class Logger:
    """Writes events of one module."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        """Name the module; use `get_logger`."""
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        """Write what only a developer looking for a fault wants."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write a decision or a change of state."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Write what went wrong and was dealt with."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Write what went wrong and needs somebody."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Write an error together with the traceback of the exception being handled."""
        self._write(logging.ERROR, event, fields, with_traceback=True)

    def _write(
        self, level: int, event: str, fields: dict[str, object], *, with_traceback: bool = False
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        extra = {"fields": {**_context.get(), **fields}}
        self._logger.log(level, "%s", event, extra=extra, exc_info=with_traceback)


class Binding:
    """Fields in force from `bind` until the `with` block ends, or for good without one."""

    __slots__ = ("_token",)

    def __init__(self, token: contextvars.Token[Mapping[str, object]]) -> None:
        """Keep what undoes the binding."""
        self._token = token

    def __enter__(self) -> Self:
        """Return the binding; it is in force already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the context as it was before."""
        _context.reset(self._token)


class _LineFormatter(logging.Formatter):
    def __init__(self, form: Format) -> None:
        super().__init__()
        self._render = _as_json if form == "json" else _as_text

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _limited(record.getMessage(), FIELD_CHARS_MAX),
        }
        for key, value in getattr(record, "fields", _NO_FIELDS).items():
            line[key if key not in line else f"{key}_"] = _plain_value(value)
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info))
            line["traceback"] = text[-TRACEBACK_CHARS_MAX:]
        return self._render(line)


class _LineHandler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        # A full disk or a closed pipe must not take the process along, nor print a traceback
        # to the very stream that failed.
        del record


def get_logger(name: str) -> Logger:
    """Return the logger of a module; `name` is its `__name__`."""
    return Logger(name)


def bind(**fields: object) -> Binding:
    """Add fields to every line of this task and the tasks it starts; use it with `with`."""
    return Binding(_context.set({**_context.get(), **fields}))


_SERVERS = ("grpc._cython.cygrpc", "aiohttp.server")
# An answer to who went away meanwhile, before gRPC has heard of it; bytes that are no HTTP, which
# aiohttp answers with 400.
_CALLERS_FAULTS = frozenset({"ExecuteBatchError", "HttpProcessingError"})


def configure(
    form: Format = "text", level: str = "info", stream: TextIO | None = None
) -> logging.Handler:
    """Send the whole process's logs to `stream` (stderr); replaces an earlier configuration."""
    handler = _LineHandler(stream or sys.stderr)
    handler.setFormatter(_LineFormatter(form))
    root = logging.getLogger()
    for earlier in [known for known in root.handlers if isinstance(known, _LineHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for server in _SERVERS:
        logging.getLogger(server).addFilter(_is_told)
    return handler


def _is_told(record: logging.LogRecord) -> bool:
    """Leave out a server's tracebacks of what callers did: else whoever likes fills the log."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or _CALLERS_FAULTS.isdisjoint(one.__name__ for one in kind.__mro__)


def escape_controls(text: str) -> str:
    r"""Return the text with control and direction characters written as \uXXXX."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _limited(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    return f"{text[:chars_max]}...(+{len(text) - chars_max})"


def _plain_value(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    with contextlib.suppress(Exception):
        return _limited(str(value), FIELD_CHARS_MAX)
    return f"<unprintable {type(value).__name__}>"


def _as_json(line: Mapping[str, object]) -> str:
    return escape_controls(json.dumps(line, ensure_ascii=False, default=str))


def _as_text(line: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_text_value(value)}" for key, value in line.items())


def _text_value(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and not _CONTROLS.search(value):
        return value
    return escape_controls(json.dumps(value, ensure_ascii=False))
