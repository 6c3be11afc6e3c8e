"""A collector of traces over OTLP/HTTP that keeps what it was sent, for tests."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from skerry.plumbing.trace_target import TRACES_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """What was noted inside a span; attributes as text."""

    name: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpan:
    """One span as it came; attributes as text, `about` those of its process."""

    service: str
    about: dict[str, str]
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]
    events: tuple[SeenEvent, ...] = ()


@dataclass
class Collector:
    """What was sent so far: spans, and every byte of it."""

    spans: list[SeenSpan] = field(default_factory=list)
    raw: bytes = b""

    async def take(self, request: web.Request) -> web.Response:
        data = await request.read()
        self.raw += data
        told = ExportTraceServiceRequest.FromString(data)
        for resource in told.resource_spans:
            about = _as_text(resource.resource.attributes)
            self.spans += [
                SeenSpan(
                    service=about.get("service.name", ""),
                    about=about,
                    name=one.name,
                    trace=one.trace_id.hex(),
                    id=one.span_id.hex(),
                    parent=one.parent_span_id.hex(),
                    attributes=_as_text(one.attributes),
                    events=tuple(
                        SeenEvent(name=event.name, attributes=_as_text(event.attributes))
                        for event in one.events
                    ),
                )
                for scope in resource.scope_spans
                for one in scope.spans
            ]
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")


def _as_text(attributes: Collection[KeyValue]) -> dict[str, str]:
    kinds = {one.key: one.value.WhichOneof("value") or "string_value" for one in attributes}
    return {one.key: str(getattr(one.value, kinds[one.key])) for one in attributes}


@asynccontextmanager
async def a_collector(host: str, port: int) -> AsyncIterator[Collector]:
    """Yield a collector that listens."""
    collector = Collector()
    app = web.Application()
    app.router.add_post(TRACES_PATH, collector.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, host, port, reuse_address=True).start()
    try:
        yield collector
    finally:
        await runner.cleanup()
