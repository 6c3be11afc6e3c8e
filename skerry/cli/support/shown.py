"""Which settings a support archive shows: those named here, and no others. PURE.

A setting that is added to a file is not shown before somebody has put it on a list.
"""

import re
from collections.abc import Mapping
from typing import Any

LEFT_OUT = "(left out)"

# A name is shown whole (True) or as far as the names below it are; of a list each item is.
Shown = Mapping[str, Any]
_TERMS = {"period_seconds": True}
CONTROL_PLANE: Shown = {
    "name": True,
    "project": True,
    "operator_address": True,
    "link_address": True,
    "http_address": True,
    "dashboard_address": True,
    "dashboard_origin": True,
    "joining": {"address": True, "advertised_address": True, "certificate_seconds": True},
    "reconnect_jitter_seconds": True,
    "changes_kept": True,
    "autoscale": _TERMS,
    "operator_access": {"required": True},
    "scheduler": {
        "mode": True,
        "moves_max": True,
        "moves_per_minute_max": True,
        "fail_back": True,
        "settle_seconds": True,
        "reserve_fraction": True,
        "region_latencies": {"client_region": True, "plane_region": True, "milliseconds": True},
    },
}
PLANE: Shown = {
    "project": True,
    "plane": True,
    "cloud": True,
    "region": True,
    "zone": True,
    "residency_zones": True,
    "control_planes": True,
    "join_addresses": True,
    "engine_user": {"uid": True, "gid": True, "groups": True, "home": True},
    "engine_environment": True,
    "control_plane_server_name": True,
    "data_dir": True,
    "front_port": True,
    "agent_port": True,
    "engine_override": True,
    "runtime": True,
    "autoscale": _TERMS,
    "pools": {
        "name": True,
        "accelerator": True,
        "accelerator_memory_bytes": True,
        "nodes": True,
        "accelerators_per_node": True,
        "host_memory_bytes": True,
        "interconnect": True,
        "node_names": True,
    },
    "gateway": {
        "host": True,
        "advertised_host": True,
        "public_port": True,
        "peer_port": True,
        "admin_port": True,
        "picker": True,
        "picker_port": True,
        "peer_reachable": True,
    },
    "relay": {"http_port": True, "grpc_port": True, "inner_port": True, "held_bytes_max": True},
}

# What a key or a credential of ours looks like, wherever it got to.
_SECRET = re.compile(
    rb"PRIVATE KEY-----|\b(?:sks_|(?:skt_|skj_|sk-)[a-z0-9-]+_)[A-Za-z0-9_-]{43}"
    rb"|://[^/\s:@\"']+:[^@\s]+@"
)


def shown_settings(values: object, shown: Shown) -> object:
    """Return the settings with LEFT_OUT in place of every value that is not on the list."""
    if isinstance(values, list):
        return [shown_settings(one, shown) for one in values]
    if not isinstance(values, dict):
        return LEFT_OUT
    return {str(name): _shown(value, shown.get(str(name))) for name, value in values.items()}


def _shown(value: object, allowed: object) -> object:
    if isinstance(allowed, Mapping):
        return shown_settings(value, allowed)
    is_plain = not isinstance(value, dict) and not _has_dict(value)
    return value if allowed is True and is_plain else LEFT_OUT


def _has_dict(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict | list) for one in value)


def looks_secret(data: bytes, known: frozenset[bytes]) -> bool:
    """Say whether the bytes hold one of the secrets that are known, or what looks like one."""
    return _SECRET.search(data) is not None or any(secret in data for secret in known)
