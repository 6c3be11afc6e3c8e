"""Traces of requests with real Envoys and a collector that comes late."""

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.plumbing.trace_target import TraceTarget
from tests.integration.gateway_world import (
    GENERATE,
    HOST,
    a_fleet,
    eventually,
    generate,
    listening_port,
)
from tests.integration.trace_collector import Collector, SeenSpan, a_collector

pytestmark = pytest.mark.integration

SECRET, PROMPT = "sk-secret-of-a-user", "a prompt that nobody else shall read"
CLIENTS_TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_request_that_spills_over_is_one_trace_and_a_dead_collector_costs_nothing(
    tmp_path: Path,
) -> None:
    port = listening_port()
    target = TraceTarget(endpoint=f"http://{HOST}:{port}", sample=1.0)
    async with a_fleet(tmp_path) as world:
        for name in ("a", "b"):
            world.planes[name].topology = replace(world.planes[name].topology, tracing=target)
            await world.settled(name, await world.planes[name].publish())
        assert (await world.chat("a"))[0] == 200  # nobody collects
        await world.engines["a1"].kill()
        async with a_collector(HOST, port) as collector:

            async def ask() -> bool:
                url = f"{world.planes['a'].url}/v1/chat/completions?key={SECRET}"
                headers = {
                    "authorization": f"Bearer {SECRET}",
                    "traceparent": f"00-{CLIENTS_TRACE}-b7ad6b7169203331-01",
                    "x-request-id": "01m8-is-no-number",  # as our own clients' ids begin
                }
                body = {"model": "m1", "messages": [{"role": "user", "content": PROMPT}]}
                async with world.client.post(url, json=body, headers=headers) as response:
                    assert (response.status, (await response.json())["engine"]) == (200, "b1")
                # Of a call over gRPC Envoy's own spans have the path with its query.
                await generate(world, "a", "m1", path=f"{GENERATE}?key={SECRET}")
                told = [s.attributes.get("grpc.path") for s in collector.spans if _is_grpc(s)]
                assert set(told) <= {"-"}
                return bool(told and _whole(collector))

            await eventually(ask)
            spans = _whole(collector)
            raw = collector.raw
    (seen, *_) = world.engines["b1"].requests[-1:]
    assert CLIENTS_TRACE not in seen["traceparent"]
    assert {span.attributes.get("skerry.deployment") for span in spans} == {"d1"}
    assert {span.attributes.get("skerry.plane") for span in spans} == {"a", "b"}
    begun = {span.attributes["skerry.plane"] for span in collector.spans if not span.parent}
    assert begun == {"a"}  # health checks at b began none
    for hidden in (SECRET, PROMPT, "b1 says", CLIENTS_TRACE):
        assert hidden.encode() not in raw
    assert bytes.fromhex(CLIENTS_TRACE) not in raw


def _is_grpc(span: SeenSpan) -> bool:
    return span.attributes.get("grpc.content_type") == "application/grpc"


def _whole(collector: Collector) -> list[SeenSpan]:
    """Return the spans of a trace that both gateways have told of, none without one."""
    by_trace: dict[str, list[SeenSpan]] = {}
    for span in collector.spans:
        by_trace.setdefault(span.trace, []).append(span)
    for spans in by_trace.values():
        ids = {span.id for span in spans}
        planes = {span.attributes.get("skerry.plane") for span in spans}
        joined = [span for span in spans if span.parent in ids]
        if planes >= {"a", "b"} and len(joined) == len(spans) - 1 and len(spans) >= 4:
            return spans
    return []
