"""The whole of what Envoy is told: topology in, xDS resources and bootstrap out.

Pure: no I/O, no clock; the same topology gives the same bytes. `publish.publish` calls it.
"""

from dataclasses import dataclass

from workload_plane.gateway.clusters import build_clusters, build_endpoints
from workload_plane.gateway.listeners import build_listeners
from workload_plane.gateway.picking import log_cluster
from workload_plane.gateway.routes import build_routes
from workload_plane.gateway.tls import build_secrets
from workload_plane.gateway.topology import GatewayTopology
from workload_plane.gateway.wire import Json, duration, extension, file_source, socket_address

_MONITORS = "envoy.extensions.resource_monitors"
# Of clients; each costs up to two buffers and a descriptor. Peers and the relay are not counted.
CONNECTIONS_MAX = 20_000
# Ten times what the gateway takes under load; it protects the engines' host memory.
_HEAP_BYTES_MAX = 2 * 1024**3
_HEAP_SHRINK_FRACTION = 0.8
# Whoever holds most memory is reset first: bodies that never end cost others nothing. Streams that
# hold less than 64 KiB (2**16) are not counted.
_RESET_FROM_FRACTION, _RESET_ALL_FRACTION = 0.85, 0.95
_COUNTED_POWER_OF_TWO = 16
_HEAP_REFUSE_FRACTION = 0.97
# Of Envoy's admin: what the agent, the picker and Prometheus read, and who looks for a fault.
_ADMIN_PAGES = ("/stats", "/stats/prometheus", "/clusters", "/server_info", "/ready", "/certs")
# With the query, where one belongs to it: a drain, a turn of the logs, and whether all is logged.
_ADMIN_DEEDS = (
    "/healthcheck/fail",
    "/drain_listeners?inboundonly",
    "/reopen_logs",
    "/config_dump?resource=dynamic_listeners",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All dynamic resources of one gateway."""

    listeners: tuple[Json, ...]
    routes: tuple[Json, ...]
    clusters: tuple[Json, ...]
    endpoints: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()


def build_snapshot(topology: GatewayTopology, files_root: str, descriptor_set: bytes) -> Snapshot:
    """Return the resources for a topology; `files_root` is where Envoy finds its files.

    `descriptor_set` is a serialised FileDescriptorSet of openengine.v1 with all its imports.
    """
    return Snapshot(
        listeners=build_listeners(topology, files_root, descriptor_set),
        routes=build_routes(topology),
        clusters=build_clusters(topology, files_root),
        endpoints=build_endpoints(topology),
        secrets=() if topology.tls is None else build_secrets(topology.tls),
    )


def build_bootstrap(topology: GatewayTopology, files_root: str) -> Json:
    """Return Envoy's static configuration; a change to it needs a restart."""
    return {
        "node": {"id": topology.plane, "cluster": topology.project},
        "admin": {
            # Whoever reaches the admin can stop the gateway: this host only.
            "address": socket_address("127.0.0.1", topology.listen.admin_port),
            "allow_paths": _admin_paths(),
            "ignore_global_conn_limit": True,
        },
        "dynamic_resources": {
            "lds_config": file_source(files_root, "listeners/listeners.json"),
            "cds_config": file_source(files_root, "clusters/clusters.json"),
        },
        "overload_manager": _overload(),
        **_static(topology),
    }


def _admin_paths() -> list[Json]:
    """Return which pages of Envoy's admin answer, by path and query; all others are a 403.

    Every user of the host reaches them. What ends Envoy is none of them, nor what changes its
    runtime; `config_dump?include_eds` ended it with a segmentation fault (1.40, seen here).
    """
    asked = [{"prefix": f"{page}?"} for page in _ADMIN_PAGES]
    return [*({"exact": page} for page in (*_ADMIN_PAGES, *_ADMIN_DEEDS)), *asked]


def _static(topology: GatewayTopology) -> Json:
    # Also where the picker is off, so that turning it on needs no restart.
    if not topology.picker_directory:
        return {}
    return {"static_resources": {"clusters": [log_cluster(topology.picker_directory)]}}


def _overload() -> Json:
    return {
        "refresh_interval": duration(0.25),
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": _COUNTED_POWER_OF_TWO},
        "resource_monitors": [
            extension(
                "envoy.resource_monitors.fixed_heap",
                f"{_MONITORS}.fixed_heap.v3.FixedHeapConfig",
                max_heap_size_bytes=_HEAP_BYTES_MAX,
            ),
            extension(
                "envoy.resource_monitors.global_downstream_max_connections",
                f"{_MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=CONNECTIONS_MAX,
            ),
        ],
        "actions": [
            _heap_action("envoy.overload_actions.shrink_heap", _HEAP_SHRINK_FRACTION),
            _reset_action(),
            _heap_action("envoy.overload_actions.stop_accepting_requests", _HEAP_REFUSE_FRACTION),
        ],
    }


def _reset_action() -> Json:
    scaled = {
        "scaling_threshold": _RESET_FROM_FRACTION,
        "saturation_threshold": _RESET_ALL_FRACTION,
    }
    trigger = {"name": "envoy.resource_monitors.fixed_heap", "scaled": scaled}
    return {"name": "envoy.overload_actions.reset_high_memory_stream", "triggers": [trigger]}


def _heap_action(name: str, fraction: float) -> Json:
    trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": fraction}}
    return {"name": name, "triggers": [trigger]}
