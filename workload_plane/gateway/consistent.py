"""What must hold of a snapshot before Envoy may see it: references resolve, nothing vanishes.

Pure; `publish.publish` calls both checks. A valid but empty set is the most dangerous one:
Envoy takes it at once and answers 503 to everybody.
"""

from collections.abc import Iterator
from typing import Any

from skerry.plumbing.errors import Conflict, InvalidInput
from workload_plane.gateway.clusters import KINDS, LOCAL_HTTP, PEER, split_cluster_name
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.wire import Json

# A set that loses more than this share of its names without being told so is taken for a fault
# of whoever made it, not for an instruction.
_SHRINK_FRACTION_MAX = 0.5


def check_references(snapshot: Snapshot) -> None:
    """Raise InvalidInput naming every reference that leads nowhere and every name given twice."""
    faults = sorted({*_duplicates(snapshot), *_dangling(snapshot)})
    if faults:
        raise InvalidInput(f"gateway resources do not fit together: {'; '.join(faults)}")


def check_shrink(previous: Snapshot, new: Snapshot, tombstones: frozenset[str]) -> None:
    """Raise Conflict when names vanish that no tombstone explains: all, or more than half.

    Names are those of listeners, deployments, peers and replicas. A replica may be replaced by
    another of a new name; the others may not.
    """
    after = _names(new)
    for what, before in _names(previous).items():
        expected = before - tombstones
        gone = expected - after[what]
        came = len(after[what] - before) if what == "replica" else 0
        lost = len(gone) - came
        if gone and (not after[what] or lost > _SHRINK_FRACTION_MAX * len(expected)):
            raise Conflict(
                f"refusing to drop {len(gone)} of {len(before)} {what}s from the gateway without"
                f" tombstones: {', '.join(sorted(gone))}; the last published state stays"
            )


def replica_names(snapshot: Snapshot) -> frozenset[str]:
    """Return the names of the local replicas that the snapshot routes to."""
    return frozenset(
        host["endpoint"]["hostname"]
        for resource in snapshot.endpoints
        if resource["cluster_name"].startswith(f"{LOCAL_HTTP}/")
        for locality in resource.get("endpoints", ())
        for host in locality.get("lb_endpoints", ())
    )


def _names(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    kinds = [split_cluster_name(cluster["name"]) for cluster in snapshot.clusters]
    return {
        "listener": frozenset(listener["name"] for listener in snapshot.listeners),
        "deployment": frozenset(split[1] for split in kinds if split and split[0] in KINDS),
        "peer": frozenset(split[1] for split in kinds if split and split[0] == PEER),
        "replica": replica_names(snapshot),
    }


def _duplicates(snapshot: Snapshot) -> Iterator[str]:
    sets: dict[str, tuple[Json, ...]] = {
        "listener": snapshot.listeners,
        "route table": snapshot.routes,
        "cluster": snapshot.clusters,
        "secret": snapshot.secrets,
    }
    for what, resources in sets.items():
        names = [resource["name"] for resource in resources]
        yield from (f"{what} {name!r} given twice" for name in names if names.count(name) > 1)
    addresses = [str(listener["address"]) for listener in snapshot.listeners]
    yield from (f"two listeners on {a}" for a in addresses if addresses.count(a) > 1)


def _dangling(snapshot: Snapshot) -> Iterator[str]:
    clusters = {cluster["name"] for cluster in snapshot.clusters}
    tables = {table["name"] for table in snapshot.routes}
    secrets = {secret["name"] for secret in snapshot.secrets}
    endpoints = {resource["cluster_name"] for resource in snapshot.endpoints}
    for table in snapshot.routes:
        for name in _values(table, "cluster"):
            if name not in clusters:
                yield f"route table {table['name']!r} names unknown cluster {name!r}"
    for listener in snapshot.listeners:
        for name in _values(listener, "route_config_name"):
            if name not in tables:
                yield f"listener {listener['name']!r} names unknown route table {name!r}"
        for percentages in _values(listener, "cluster_min_healthy_percentages"):
            for name in percentages.keys() - clusters:
                yield f"listener {listener['name']!r} names unknown cluster {name!r}"
    for cluster in snapshot.clusters:
        for name in _values(cluster, "service_name"):
            if name not in endpoints:
                yield f"cluster {cluster['name']!r} names unknown endpoints {name!r}"
    for resource in (*snapshot.listeners, *snapshot.clusters):
        for name in _secret_names(resource):
            if name not in secrets:
                yield f"{resource['name']!r} names unknown secret {name!r}"


def _secret_names(resource: Json) -> Iterator[str]:
    for config in _values(resource, "tls_certificate_sds_secret_configs"):
        yield from (entry["name"] for entry in config)
    for config in _values(resource, "validation_context_sds_secret_config"):
        yield config["name"]


def _values(value: Any, key: str) -> Iterator[Any]:
    """Yield what is stored under the key anywhere inside."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            else:
                yield from _values(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner, key)
