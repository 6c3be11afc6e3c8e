"""Spans of this process, sent to a collector by the OpenTelemetry SDK; off until `start`.

A composition root calls `start` and `stop`, shells around decisions and requests call `span`.
The SDK is imported by `start` alone: restarts wait for imports. Export has a thread and a bounded
queue of its own; a collector that is away costs spans, which are counted, and nothing else.
State is the process's on purpose, as with metrics.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from skerry.plumbing import logs, metrics
from skerry.plumbing.trace_target import TraceTarget

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace import Span as SdkSpan
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.trace import Tracer

_log = logs.get_logger(__name__)

Value = str | bool | int | float

TRACEPARENT = "traceparent"
# A second's worth of spans at several hundred requests, 2 MB; the SDK's own default.
QUEUE_SPANS_MAX = 2_048
BATCH_SPANS_MAX = 512
EXPORT_SECONDS_MAX = 2.0
STOP_SECONDS_MAX = 3.0  # below what every supervisor gives a process to end in
_EVERY_MILLISECONDS = 1_000
EVENTS_MAX = 64  # of one span; a turn that tells a thousand planes names the first of them
TEXT_CHARACTERS_MAX = 256
_IDLE = "skerry.idle"
# Version 00, a trace, a span, and flags of which the last bit says that it is sampled.
_SAMPLED = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f][13579bdf]")

DROPPED = metrics.counter(
    "skerry_trace_dropped_spans_total",
    unit="spans",
    help="Spans that reached no collector: it was away, or took them too slowly.",
)
SENT = metrics.counter(
    "skerry_trace_sent_spans_total", unit="spans", help="Spans that the collector took."
)


class Span:
    """What is being traced; one that is not does nothing."""

    __slots__ = ("_events", "_inner")

    def __init__(self, inner: Any = None) -> None:
        """Write to the SDK's span, or nowhere."""
        self._inner = inner
        self._events = 0

    def set(self, **attributes: Value) -> None:
        """Add attributes; names get the prefix `skerry.`."""
        if self._inner is not None:
            self._inner.set_attributes(_named(attributes))

    def event(self, name: str, **attributes: Value) -> None:
        """Note what happened now; beyond EVENTS_MAX nothing."""
        if self._inner is not None and self._events < EVENTS_MAX:
            self._events += 1
            self._inner.add_event(name, _named(attributes))


_OFF = Span()
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def start(target: TraceTarget | None, service: str, **resource: str) -> None:
    """Send this process's spans to the target from now on; None: nowhere.

    `service` and `resource` say whose they are. Which requests are traced was decided by the
    gateway, and all decisions are, so `target.sample` is not looked at here.
    """
    global _provider, _tracer
    if target is None or _provider is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # One line each failed batch, with a traceback; `_Exporter` tells it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    inner = OTLPSpanExporter(endpoint=target.url, timeout=EXPORT_SECONDS_MAX)
    counted = _Exporter(inner)
    batches = BatchSpanProcessor(
        counted,  # type: ignore[arg-type]
        max_queue_size=QUEUE_SPANS_MAX,
        max_export_batch_size=BATCH_SPANS_MAX,
        schedule_delay_millis=_EVERY_MILLISECONDS,
    )
    told = Resource({"service.name": service, **_named(resource)})
    _provider = TracerProvider(resource=told, shutdown_on_exit=False)
    _provider.add_span_processor(_Processor(batches, counted))  # type: ignore[arg-type]
    _tracer = _provider.get_tracer("skerry")


def stop() -> None:
    """Send what waits, for some seconds at most, and trace no more."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        # The SDK waits for its thread half a minute, and that for a collector that says nothing.
        ending = threading.Thread(target=provider.shutdown, daemon=True, name="tracing-stop")
        ending.start()
        ending.join(STOP_SECONDS_MAX)


@contextlib.contextmanager
def span(name: str, /, *, idle: bool = False, **attributes: Value) -> Iterator[Span]:
    """Trace the block as a part of the span around it; its log lines have `trace_id`.

    An `idle` one is sent only if another span was begun inside it.
    """
    if _tracer is None:
        yield _OFF
        return
    from opentelemetry import trace

    trace.get_current_span().set_attribute(_IDLE, False)
    with _open(name, {**_named(attributes), _IDLE: idle}, None) as found:
        yield found


@contextlib.contextmanager
def continued(name: str, traceparent: str, /, **attributes: Value) -> Iterator[Span]:
    """Trace the block as a part of a caller's trace, if the caller's is sampled."""
    match = _SAMPLED.fullmatch(traceparent) if _tracer is not None else None
    if match is None:
        yield _OFF
        return
    from opentelemetry import trace

    caller = trace.SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    around = trace.set_span_in_context(trace.NonRecordingSpan(caller))
    with _open(name, _named(attributes), around) as found:
        yield found


@contextlib.contextmanager
def _open(name: str, attributes: dict[str, Value], around: Context | None) -> Iterator[Span]:
    assert _tracer is not None
    # An exception's text may hold what a user sent: its kind is told, and no more.
    with _tracer.start_as_current_span(
        name,
        context=around,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as inner:
        with logs.bind(trace_id=f"{inner.get_span_context().trace_id:032x}"):
            try:
                yield Span(inner)
            except BaseException as error:
                inner.set_attribute("error.type", type(error).__name__)
                raise


def _named(attributes: dict[str, Any]) -> dict[str, Value]:
    return {
        f"skerry.{key}": value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value
        for key, value in attributes.items()
    }


class _Processor:
    """Hands spans to the batches, leaves out idle ones, and counts those that find no room."""

    def __init__(self, batches: Any, exporter: _Exporter) -> None:
        self._batches = batches
        self._exporter = exporter
        self._ended = self._dropped = 0

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        self._batches.on_start(span, parent_context)

    def _on_ending(self, span: SdkSpan) -> None:
        """Do nothing: the SDK asks every processor."""

    def on_end(self, span: ReadableSpan) -> None:
        if (span.attributes or {}).get(_IDLE):
            return
        if self._ended - self._dropped - self._exporter.taken >= QUEUE_SPANS_MAX:
            self._dropped += 1  # the oldest makes room
            DROPPED.inc()
        self._ended += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._exporter.is_closing = True
        self._batches.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._batches.force_flush(timeout_millis))


class _Exporter:
    """Sends batches in the SDK's thread, counts them, and tells once when that begins to fail."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._fails = False
        self.taken = 0
        self.is_closing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        if not (self._fails and self.is_closing):  # nobody's end waits for one that is away
            with contextlib.suppress(Exception):
                result = self._inner.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        (DROPPED if fails else SENT).inc(len(spans))
        if fails != self._fails:
            self._fails = fails
            (_log.warning if fails else _log.info)(
                "tracing.collector-lost" if fails else "tracing.collector-found"
            )
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._inner.force_flush(timeout_millis))
