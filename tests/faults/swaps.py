"""Changes of a gateway's published files, one after another, through the agent's own writer."""

import json
import threading
from pathlib import Path
from typing import Any

from tests.faults.fleet import DEPLOYMENT
from workload_plane.gateway.files import apply_step
from workload_plane.gateway.order import CLUSTERS, LISTENERS, WriteFile

Json = Any
_ROUTES = "routes/public.json"
_PAUSE_SECONDS = 0.04


def _resources(path: Path) -> tuple[Json, ...]:
    return tuple(json.loads(path.read_bytes())["resources"])


def _copy(value: Json) -> Json:
    return json.loads(json.dumps(value))


def _without_first(assignment: Json) -> Json:
    here = min(assignment["endpoints"], key=lambda group: group.get("priority", 0))
    assert len(here["lb_endpoints"]) == 2
    del here["lb_endpoints"][0]
    return assignment


def _other_timeout(cluster: Json) -> Json:
    cluster["connect_timeout"] = "2.5s"
    return cluster


def _other_header(table: Json) -> Json:
    header = {"header": {"key": "x-swapped", "value": "1"}}
    table.setdefault("response_headers_to_add", []).append(header)
    return table


def _other_buffer(listener: Json) -> Json:
    listener["per_connection_buffer_limit_bytes"] = 2 * 1024 * 1024
    return listener


# Envoy warms a changed cluster up beside the old one; one that changes again before it is warm was
# seen without hosts (50 changes a second: 12 of 121 requests failed; 2 a second: none of 193). The
# agent changes what is in a known cluster only with its own settings, so here it is every tenth.
_HTTP, _GRPC = (f"endpoints/{DEPLOYMENT}/{kind}.json" for kind in ("http", "grpc"))
_TURNS = (
    (_HTTP, _without_first),
    (_GRPC, _without_first),
    (_ROUTES, _other_header),
    (_HTTP, _without_first),
    (_GRPC, _without_first),
    (LISTENERS, _other_buffer),
    (_HTTP, _without_first),
    (_GRPC, _without_first),
    (_ROUTES, _other_header),
    (CLUSTERS, _other_timeout),
)


def swap(gateway_dir: Path, count: int) -> int:
    """Change so many files in turn and return how many were written; the last is as the first.

    Endpoints lose one of two replicas and get it back, routes, listeners and clusters get another
    value of no consequence. To be called with the agent stopped, in a thread: it waits for disks.
    """
    first = {path: _resources(gateway_dir / path) for path, _ in _TURNS}
    changed: set[str] = set()
    pause, written = threading.Event(), 0
    for number in range(count):
        path, change = _TURNS[number % len(_TURNS)]
        resources = first[path]
        if path not in changed:
            resources = tuple(change(_copy(resource)) for resource in resources)
        changed ^= {path}
        written += apply_step(gateway_dir, WriteFile(path=path, resources=resources))
        pause.wait(_PAUSE_SECONDS)
    return written
