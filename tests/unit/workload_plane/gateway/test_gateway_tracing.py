"""What tracing adds to the gateway's resources, and that it adds nothing where it is off."""

import json
from dataclasses import replace

import pytest

from skerry.plumbing.trace_target import TraceTarget
from tests.unit.workload_plane.gateway.gateway_builders import DESCRIPTOR_SET, a_topology
from workload_plane.gateway.consistent import check_references
from workload_plane.gateway.resources import build_snapshot


def test_without_tracing_nothing_of_it_reaches_envoy() -> None:
    told = repr(build_snapshot(a_topology(), "/gateway", DESCRIPTOR_SET))
    assert not any(word in told for word in ("'tracing'", "traceparent", "trace-collector"))


def test_traces_begin_at_the_public_listener_alone() -> None:
    target = TraceTarget(endpoint="http://collector:4318", sample=0.01)
    snapshot = build_snapshot(replace(a_topology(), tracing=target), "/gateway", DESCRIPTOR_SET)
    check_references(snapshot)
    public, peer = (json.dumps(listener) for listener in snapshot.listeners)
    assert '"numerator": 10000, "denominator": "MILLION"' in public
    for listener in (public, peer):  # no client's id says what is traced
        assert '"use_request_id_for_trace_sampling": false' in listener
    assert '"remove": "traceparent"' in public
    assert "parent_based" in peer
    assert '"remove": "traceparent"' not in peer


@pytest.mark.parametrize(
    "endpoint", ["", "https://a:1", "http://u:p@a", "http://a/?k=1", "a:1", "http://[::1"]
)
def test_an_endpoint_that_is_no_plain_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        TraceTarget(endpoint=endpoint)
