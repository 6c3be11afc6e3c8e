"""What an Envoy of before can be told: nothing for which its bootstrap has no place. Pure.

`feed` and `publish` ask. After an upgrade the agent tells an Envoy that the release before started,
and the next start may come before the bootstrap of this one was tried: listeners that log to a
cluster of it are refused then, and such a gateway had none.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workload_plane.gateway.picking import PICKER_LOG, PICKER_LOGGER
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.status import GatewayStatus
from workload_plane.gateway.topology import GatewayTopology
from workload_plane.gateway.wire import Json


def fitted(
    topology: GatewayTopology, starts_from: Json | None, *, runs_with_log: bool = True
) -> GatewayTopology:
    """Return the topology without the picker where Envoy has no cluster for its log.

    `starts_from` is the bootstrap in force, None before there is one; `runs_with_log` says whether
    the Envoy that runs has the cluster.
    """
    if topology.picks and not (runs_with_log and _has_log(starts_from)):
        return replace(topology, picks=False)
    return topology


def has_log_cluster(status: GatewayStatus | None, before: bool) -> bool:
    """Say whether the running Envoy has the log's cluster; as `before` where it does not answer."""
    return before if status is None else PICKER_LOG in status.hosts


def is_logged(published: Snapshot | None) -> bool:
    """Say whether the picker is told of what becomes of requests; nothing published is no no."""
    if published is None:
        return True
    configs = (
        network_filter["typed_config"]
        for listener in published.listeners
        for chain in listener["filter_chains"]
        for network_filter in chain["filters"]
    )
    return any(
        log["name"] == PICKER_LOGGER for config in configs for log in config.get("access_log", ())
    )


def _has_log(bootstrap: Mapping[str, Any] | None) -> bool:
    if bootstrap is None:
        return True
    static = bootstrap.get("static_resources")
    clusters = static.get("clusters") if isinstance(static, dict) else ()
    # An altered file may be JSON and no bootstrap: it has no such cluster then.
    return any(isinstance(one, dict) and one.get("name") == PICKER_LOG for one in clusters or ())
