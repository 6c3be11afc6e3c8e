"""Spans where nothing collects: off they are nothing, on they are dropped and counted."""

import asyncio
import socket
import subprocess
import sys

import pytest

from skerry.plumbing import tracing
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import fixed_port
from skerry.plumbing.trace_target import TraceTarget
from tests.integration.trace_collector import a_collector

pytestmark = pytest.mark.integration
CLOCK = SystemClock()
HOST = "127.0.0.1"

_DEAD = """
import sys
from skerry.plumbing import metrics, tracing
from skerry.plumbing.trace_target import TraceTarget
tracing.start(TraceTarget(endpoint="http://127.0.0.1:1"), "test")
with tracing.span("idle", idle=True):
    pass
with tracing.span("turn", idle=True), tracing.span("apply") as span:
    span.event("pushed", plane="a", generation=7)
with tracing.continued("generate", f"00-{'a' * 32}-{'b' * 16}-01"):
    pass
with tracing.continued("generate", f"00-{'a' * 32}-{'b' * 16}-00"):
    pass
tracing.stop()
sys.stdout.write(metrics.render().decode())
"""

_FAILING = """
import contextlib, sys
from skerry.plumbing import logs, tracing
from skerry.plumbing.trace_target import TraceTarget
logs.configure()
log = logs.get_logger("test")
tracing.start(TraceTarget(endpoint=sys.argv[1]), "test")
with contextlib.suppress(ValueError), tracing.span("turn"):
    log.info("inside")
    raise ValueError("what a user sent")
log.info("outside")
tracing.stop()
"""


def test_off_nothing_of_the_sdk_is_imported() -> None:
    code = "import sys; from skerry.plumbing import tracing; tracing.start(None, 'x')\n"
    code += "with tracing.span('x'): print([m for m in sys.modules if 'opentel' in m])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_dead_collector_costs_counted_spans_and_an_end_of_some_seconds() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _DEAD], capture_output=True, text=True, check=True, timeout=30
    )
    assert "skerry_trace_dropped_spans_total 3.0" in told.stdout


async def test_an_exception_tells_its_kind_alone_and_lines_inside_have_the_trace() -> None:
    port = fixed_port(HOST)
    async with a_collector(HOST, port) as collector:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _FAILING, f"http://{HOST}:{port}"), stderr=subprocess.PIPE
        )
        async with asyncio.timeout(30):
            _, told = await process.communicate()
    (span,) = collector.spans
    assert span.attributes["error.type"] == "ValueError"
    assert b"what a user sent" not in collector.raw
    (inside, outside) = told.decode().splitlines()
    assert f"trace_id={span.trace}" in inside
    assert "trace_id" not in outside


def test_a_collector_that_says_nothing_holds_nobody_at_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers none
        code = _DEAD.replace("127.0.0.1:1", f"127.0.0.1:{silent.getsockname()[1]}")
        began = CLOCK.monotonic()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
        assert CLOCK.monotonic() - began < tracing.STOP_SECONDS_MAX + 5.0  # and its start


def test_a_span_that_is_off_takes_whatever_it_is_told() -> None:
    with tracing.continued("x", "no traceparent") as span:
        span.set(a=1)
        span.event("b")
    assert TraceTarget(endpoint="http://[::1]").url == "http://[::1]:4318/v1/traces"
