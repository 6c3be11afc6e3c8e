"""Nodes as stored and as reported now -> the operator API's messages."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from control_plane.api.times import time_to_proto
from control_plane.api.views import FleetView
from control_plane.reconcile.supply import used_by_node
from control_plane.store.values import StoredNode
from skerry.api.operator.v1 import node_pb2
from skerry.fleet.cordon import Cordons
from skerry.fleet.names import DEFAULT_PROJECT, full_name, pool_name
from skerry.fleet.node import node_name
from skerry.fleet.observation import ReplicaState


def nodes_to_proto(view: FleetView, nodes: Sequence[StoredNode]) -> Iterator[node_pb2.Node]:
    """Yield nodes with their cordons and what runs there, as far as their planes are heard."""
    cordons = Cordons(view.store.cordons)
    replicas, used = _running(view, {stored.plane for stored in nodes})
    for stored in nodes:
        cordon = cordons.of_node(stored.name)
        ready = stored.node.ready
        yield node_pb2.Node(
            name=full_name(DEFAULT_PROJECT, "nodes", stored.name),
            plane=stored.plane,
            pool=pool_name(stored.plane, stored.node.pool),
            state=node_pb2.Node.STATE_READY if ready else node_pb2.Node.STATE_NOT_READY,
            message=stored.node.message,
            accelerators=stored.node.accelerators,
            accelerators_used=used.get(stored.name, 0),
            replicas=sorted(replicas.get(stored.name, ())),
            cordoned=cordon is not None,
            draining=cordon is not None and cordon.draining,
            update_time=time_to_proto(stored.updated_at),
        )


def _running(
    view: FleetView, planes: set[str]
) -> tuple[Mapping[str, list[str]], Mapping[str, int]]:
    """Return the names of replicas and the accelerators taken, by the nodes' fleet-wide ids."""
    replicas: dict[str, list[str]] = defaultdict(list)
    used: dict[str, int] = {}
    for plane in (planes & view.observations.keys()) - view.index.lost:
        report = view.observations[plane].report
        for name, taken in used_by_node(report, view.index.deployments).items():
            used[node_name(plane, name)] = taken
        for replica in report.replicas:
            for node in replica.nodes if replica.state is not ReplicaState.FAILED else ():
                replicas[node_name(plane, node)].append(replica.name)
    return replicas, used
