"""A replica of a Ray node, from the plane's record and its node's word: PURE."""

import dataclasses
from collections.abc import Collection

from skerry.fleet.names import pool_name
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Exhausted
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.replicas.supply import Supply

STARTING_FAULT = "its node was not heard yet"


def adopted(record: ReplicaRecord, told: ReplicaRecord) -> ReplicaRecord:
    """Return the plane's record with what its node knows of the processes."""
    begins_anew = told.restarts > record.restarts and record.state in (
        ReplicaState.READY,
        ReplicaState.STARTING,
    )
    return dataclasses.replace(
        record,
        pid=told.pid,
        start_time=told.start_time,
        engine_pid=told.engine_pid,
        engine_start_time=told.engine_start_time,
        boot_id=told.boot_id,
        host=told.host,
        devices=told.devices,
        http_port=told.http_port,
        grpc_port=told.grpc_port,
        health_port=told.health_port,
        restarts=max(record.restarts, told.restarts),
        failures=told.failures,
        state=ReplicaState.STARTING if begins_anew else record.state,
        message=told.message if begins_anew else record.message,
    )


def judge(
    record: ReplicaRecord, told: LiveReplica | None, silent: str, starting: Collection[str]
) -> LiveReplica:
    """Return what is known of a replica; `silent` says why its node is not heard, if it is not.

    What nobody can ask about is taken to live: its health and the gateway tell whether it serves.
    """
    if record.state is ReplicaState.FAILED and not record.pid:
        return LiveReplica(record=record, alive=False, fault=record.message)
    if told is not None:
        current = adopted(record, told.record)
        return dataclasses.replace(told, record=current)
    if silent or record.name in starting:
        return LiveReplica(record=record, alive=True, fault=silent)
    return LiveReplica(record=record, alive=False, fault="its node knows nothing of its host")


def nodes_wanted(order: ReplicaOrder, supply: Supply) -> tuple[str, ...]:
    """Return the nodes of an order, one that is open where it names none."""
    if order.nodes:
        return order.nodes
    closed = supply.closed
    for node in supply.nodes:
        if order.pool.endswith(pool_name("x", node.pool)[1:]) and node.name not in closed:
            return (node.name,)
    raise Exhausted(f"pool {order.pool} has no node that takes anything new")


def node_order(order: ReplicaOrder, nodes: tuple[str, ...]) -> ReplicaOrder:
    """Return what the first node is told: its share, and its devices by their own numbers."""
    share = max(1, order.accelerators // len(nodes))
    each = len(order.pool_devices) // len(nodes)
    return dataclasses.replace(
        order, nodes=nodes, accelerators=share, pool_devices=tuple(range(each))
    )
