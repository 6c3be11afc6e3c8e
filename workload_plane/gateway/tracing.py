"""The gateway's traces: Envoy's OpenTelemetry tracer and the collector that it sends them to.

Pure; `listeners` and `clusters` call it. A trace begins at the public listener alone, for the share
of requests that is told: what a client says of a trace is dropped, so that nobody can have all of
theirs traced. Peers and the relay's way back in continue what was begun.
"""

from skerry.plumbing.trace_target import TraceTarget
from workload_plane.gateway.topology import GatewayTopology
from workload_plane.gateway.wire import DEPLOYMENT_HEADER, Json, duration, extension, typed

COLLECTOR = "trace-collector"
SERVICE = "skerry-gateway"
# The relay's way back in keeps them.
CLIENTS_TRACE_REMOVED: list[Json] = [
    {"remove": name} for name in ("traceparent", "tracestate", "x-client-trace-id")
]
_SAMPLERS = "envoy.extensions.tracers.opentelemetry.samplers.v3"
_EXPORT_SECONDS = 2.0
_CONNECT_SECONDS = 1.0
# Spans that wait in each of Envoy's threads; the rest is dropped.
_CACHE_SPANS_MAX = 1_024
# A collector that hangs must not hold more than this.
_EXPORTS_MAX = 8
_NO_ANSWER = "-"
# A gRPC call's path with its query, and what its engine said of it in an attempt's span. In the
# request's own span Envoy writes the status's text after these, which nothing overwrites.
_UNTOLD = ("grpc.path", "grpc.message")
_SHARES = 1_000_000


def request_ids(*, is_traced: bool) -> Json:
    """Return how ids of requests are made; they say nothing of traces."""
    untold = {"use_request_id_for_trace_sampling": False} if is_traced else {}
    config = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
    return {"typed_config": typed(config, pack_trace_reason=False, **untold)}


def traced(topology: GatewayTopology, *, begins: bool) -> Json:
    """Return the connection manager's field of it, nothing where nothing is traced.

    `begins` says whether traces begin here, or are only continued.
    """
    target = topology.tracing
    if target is None:
        return {}
    provider = extension(
        "envoy.tracers.opentelemetry",
        "envoy.config.trace.v3.OpenTelemetryConfig",
        service_name=SERVICE,
        http_service={
            "http_uri": {
                "uri": target.url,
                "cluster": COLLECTOR,
                "timeout": duration(_EXPORT_SECONDS),
            }
        },
        max_cache_size=_CACHE_SPANS_MAX,
        sampler=_share(target.sample) if begins else _as_begun(),
    )
    return {
        # Else a request's id, which clients choose, says whether it is traced.
        "request_id_extension": request_ids(is_traced=True),
        "tracing": {
            "provider": provider,
            "client_sampling": {"value": 0},
            # The samplers choose. With 0 what another began would not be continued.
            "random_sampling": {"value": 100},
            "spawn_upstream_span": True,
            "operation": f"%REQ({DEPLOYMENT_HEADER})%",
            "upstream_operation": "%UPSTREAM_CLUSTER% attempt %UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            # A path may have a query, and that what nobody is to see.
            "max_path_tag_length": 0,
            "custom_tags": [
                {"tag": "skerry.plane", "literal": {"value": topology.plane}},
                {
                    "tag": "skerry.deployment",
                    "request_header": {"name": DEPLOYMENT_HEADER, "default_value": _NO_ANSWER},
                },
                *({"tag": tag, "literal": {"value": _NO_ANSWER}} for tag in _UNTOLD),
            ],
        },
    }


def collector_cluster(target: TraceTarget) -> Json:
    """Return the collector's cluster: looked up by name again and again, waited for by nobody."""
    address = {"socket_address": {"address": target.host, "port_value": target.port}}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=COLLECTOR,
        type="STRICT_DNS",
        wait_for_warm_on_init=False,
        connect_timeout=duration(_CONNECT_SECONDS),
        load_assignment={
            "cluster_name": COLLECTOR,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": _EXPORTS_MAX,
                    "max_pending_requests": _EXPORTS_MAX,
                    "max_requests": _EXPORTS_MAX,
                }
            ]
        },
    )


def as_continued(connection: Json) -> None:
    """Make a connection manager that begins traces one that continues them alone."""
    if "tracing" in connection:
        connection["tracing"]["provider"]["typed_config"]["sampler"] = _as_begun()


def _as_begun() -> Json:
    """Return the sampler that has traced what the other gateway traces, and nothing else."""
    return extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        f"{_SAMPLERS}.ParentBasedSamplerConfig",
        wrapped_sampler=_share(0.0),
    )


def _share(sample: float) -> Json:
    """Return the sampler that goes by a trace's own random id; a share above 0 is at least one."""
    part = max(1, round(sample * _SHARES)) if sample else 0
    return extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig",
        sampling_percentage={"numerator": part, "denominator": "MILLION"},
    )
