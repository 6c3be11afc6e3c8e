"""What must hold of a snapshot before Envoy may see it: references resolve, nothing vanishes.

Pure; `publish.publish` calls both checks, `feed` keeps what would make the second fail for one
deployment alone. A valid but empty set is the most dangerous one: Envoy takes it at once and
answers 503 to everybody.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from skerry.plumbing.errors import Conflict, InvalidInput
from workload_plane.gateway.clusters import (
    HTTP,
    KINDS,
    LOCAL_GRPC,
    LOCAL_HTTP,
    PEER,
    split_cluster_name,
)
from workload_plane.gateway.picking import PICKER_LOG
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.topology import GatewayTopology, LocalReplica, ServedModel
from workload_plane.gateway.wire import Json
from workload_plane.picker.wire import WAITING_ROOM

# A set that loses more than this share of its names without being told so is taken for a fault
# of whoever made it, not for an instruction.
_SHRINK_FRACTION_MAX = 0.5
_HELPERS = "helping peers"


def check_references(snapshot: Snapshot) -> None:
    """Raise InvalidInput naming what leads nowhere, is given twice or is more than Envoy takes."""
    faults = sorted({*_duplicates(snapshot), *_dangling(snapshot), *_too_large(snapshot)})
    if faults:
        raise InvalidInput(f"gateway resources do not fit together: {'; '.join(faults)}")


def check_shrink(previous: Snapshot, new: Snapshot, tombstones: frozenset[str]) -> None:
    """Raise Conflict when names vanish that no tombstone explains: all, or more than half.

    Names are those of listeners, deployments and peers, and of the replicas of each deployment
    that stays: one that is emptied among full ones answers 503 to all of its users. A replica may
    be replaced by another of a new name, or lose its address to one; the others may not. All
    deployments' helping peers are one set, of which `told_helpers` says who goes knowingly.
    """
    after = _names(new)
    for what, before in _names(previous).items():
        if fault := _shrink_fault(f"{what}s", before, after[what], tombstones):
            raise Conflict(fault)
    helpers = _helpers(previous)
    explained = tombstones | {
        _pair(deployment, plane)
        for deployment, planes in helpers.items()
        for plane in planes
        if deployment not in after["deployment"] or tombstones & {deployment, plane}
    }
    if fault := _shrink_fault(_HELPERS, _pairs(helpers), _pairs(_helpers(new)), explained):
        raise Conflict(fault)
    replicas = _replicas(new)
    taken = {_address(one) for here in replicas.values() for one in here.values()}
    for deployment, known in _replicas(previous).items():
        if deployment in replicas and deployment not in tombstones:
            here = replicas[deployment].keys()
            if fault := _replicas_fault(deployment, _left(known, here, taken), here, tombstones):
                raise Conflict(fault)


def keep_unexplained(
    topology: GatewayTopology, previous: Snapshot, tombstones: frozenset[str]
) -> tuple[GatewayTopology, tuple[str, ...]]:
    """Return the topology with what `check_shrink` would miss, and what it would say.

    One deployment's accident then keeps no other deployment's replicas from being routed. Kept are
    replicas, and the peers that help where nobody said who serves a deployment.
    """
    before = _replicas(previous)
    taken = {_address(one) for model in topology.models for one in model.replicas}
    models: list[ServedModel] = []
    faults = []
    for model in topology.models:
        known = before.get(model.deployment, {})
        here = {replica.name for replica in model.replicas}
        left = _left(known, here, taken)
        fault = ""
        if model.deployment not in tombstones:
            fault = _replicas_fault(model.deployment, left, here, tombstones)
        if fault:
            faults.append(fault)
            model = _with(model, [known[name] for name in sorted(left - here - tombstones)])
        models.append(model)
    kept = replace(topology, models=tuple(models))
    helped = _with_helpers(kept, previous, tombstones)
    helpers = _pairs(_helpers(previous))
    explained = tombstones | told_helpers(topology, previous, tombstones)
    fault = _shrink_fault(_HELPERS, helpers, _helping(topology), explained)
    return (helped, (*faults, fault)) if fault else (kept, tuple(faults))


def told_helpers(
    topology: GatewayTopology, previous: Snapshot, tombstones: frozenset[str]
) -> frozenset[str]:
    """Return the helping peers that may go: the desired state says who serves their deployment.

    Or where the deployment or the plane goes, or residency lets it help no more.
    """
    untold = {model.deployment: model.untold_peers for model in topology.models}
    may_go = {
        _pair(deployment, plane)
        for deployment, planes in _helpers(previous).items()
        for plane in planes
        if plane not in untold.get(deployment, ()) or tombstones & {deployment, plane}
    }
    return frozenset(may_go - _helping(topology))


def _with_helpers(
    topology: GatewayTopology, previous: Snapshot, tombstones: frozenset[str]
) -> GatewayTopology:
    before, known = _helpers(previous), {peer.plane for peer in topology.peers} - tombstones
    models = []
    for model in topology.models:
        there = before.get(model.deployment, frozenset()) & known & set(model.untold_peers)
        kept = sorted(there - set(model.peers))
        if kept and model.deployment not in tombstones:
            model = replace(model, peers=(*model.peers, *kept), listed=True)
        models.append(model)
    return replace(topology, models=tuple(models))


def _helping(topology: GatewayTopology) -> frozenset[str]:
    return _pairs({model.deployment: frozenset(model.peers) for model in topology.models})


def _pairs(helpers: Mapping[str, Set[str]]) -> frozenset[str]:
    return frozenset(_pair(name, plane) for name, planes in helpers.items() for plane in planes)


def _pair(deployment: str, plane: str) -> str:
    return f"{plane} for {deployment}"


def _helpers(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    """Return the peers that each deployment's requests may go to: what comes after those here."""
    return {
        resource["cluster_name"].partition("/")[2]: frozenset(
            host["endpoint"]["hostname"]
            for locality in resource.get("endpoints", ())
            if locality.get("priority") and locality["locality"]["region"] != WAITING_ROOM
            for host in locality.get("lb_endpoints", ())
        )
        for resource in snapshot.endpoints
        if resource["cluster_name"].partition("/")[0] == HTTP
    }


def _with(model: ServedModel, missing: list[LocalReplica]) -> ServedModel:
    is_out = bool(model.outside_of)
    kept = [replace(replica, draining=replica.draining or is_out) for replica in missing]
    return replace(model, replicas=(*model.replicas, *kept))


def _left(
    known: Mapping[str, LocalReplica], here: Set[str], taken: Set[tuple[str, int]]
) -> frozenset[str]:
    """Return the names whose address is not another's now: who listened there before is gone."""
    return frozenset(
        name for name, one in known.items() if name in here or _address(one) not in taken
    )


def _address(replica: LocalReplica) -> tuple[str, int]:
    return replica.host, replica.http_port


def replica_names(snapshot: Snapshot) -> frozenset[str]:
    """Return the names of the local replicas that the snapshot routes to."""
    return frozenset(name for known in _replicas(snapshot).values() for name in known)


def _replicas_fault(
    deployment: str, before: Set[str], after: Set[str], tombstones: frozenset[str]
) -> str:
    what = f"replicas of deployment {deployment!r}"
    return _shrink_fault(what, before, after, tombstones, came=len(after - before))


def _shrink_fault(
    what: str, before: Set[str], after: Set[str], tombstones: frozenset[str], *, came: int = 0
) -> str:
    expected = before - tombstones
    gone = expected - after
    if not gone or (after and len(gone) - came <= _SHRINK_FRACTION_MAX * len(expected)):
        return ""
    return (
        f"refusing to drop {len(gone)} of {len(before)} {what} from the gateway without"
        f" tombstones: {', '.join(sorted(gone))}; the last published state stays"
    )


def _replicas(snapshot: Snapshot) -> dict[str, dict[str, LocalReplica]]:
    """Return the local replicas of each deployment by name."""
    hosts = {
        resource["cluster_name"]: {
            host["endpoint"]["hostname"]: host
            for locality in resource.get("endpoints", ())
            for host in locality.get("lb_endpoints", ())
        }
        for resource in snapshot.endpoints
    }
    found: dict[str, dict[str, LocalReplica]] = {}
    for cluster, by_name in hosts.items():
        kind, _, deployment = cluster.partition("/")
        if kind == LOCAL_HTTP:
            grpc = hosts.get(f"{LOCAL_GRPC}/{deployment}", {})
            found[deployment] = {
                name: _replica(name, host, grpc.get(name, host)) for name, host in by_name.items()
            }
    return found


def _replica(name: str, http: Json, grpc: Json) -> LocalReplica:
    def socket(host: Json) -> Json:
        address: Json = host["endpoint"]["address"]["socket_address"]
        return address

    return LocalReplica(
        name=name,
        host=socket(http)["address"],
        http_port=socket(http)["port_value"],
        grpc_port=socket(grpc)["port_value"],
        health_port=http["endpoint"]["health_check_config"]["port_value"],
        draining=http.get("health_status") == "DRAINING",
    )


def _names(snapshot: Snapshot) -> dict[str, frozenset[str]]:
    kinds = [split_cluster_name(cluster["name"]) for cluster in snapshot.clusters]
    return {
        "listener": frozenset(listener["name"] for listener in snapshot.listeners),
        "deployment": frozenset(split[1] for split in kinds if split and split[0] in KINDS),
        "peer": frozenset(split[1] for split in kinds if split and split[0] == PEER),
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


def _too_large(snapshot: Snapshot) -> Iterator[str]:
    """Yield what makes Envoy refuse a whole table for one of its answers."""
    for table in snapshot.routes:
        most = table["max_direct_response_body_size_bytes"]
        for told in _values(table, "direct_response"):
            size = len(told.get("body", {}).get("inline_string", "").encode())
            if size > most:
                yield f"route table {table['name']!r} has an answer of {size} bytes, above {most}"


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
        for name in _values(listener, "cluster"):
            # The access log's is in the bootstrap: Envoy takes it from nowhere else.
            if name not in clusters and name != PICKER_LOG:
                yield f"listener {listener['name']!r} names unknown cluster {name!r}"
        for percentages in _values(listener, "cluster_min_healthy_percentages"):
            for name in percentages.keys() - clusters:
                yield f"listener {listener['name']!r} names unknown cluster {name!r}"
    for cluster in snapshot.clusters:
        for name in (name for led in _values(cluster, "clusters") for name in led):
            if name not in clusters:
                yield f"cluster {cluster['name']!r} names unknown cluster {name!r}"
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
