"""Planes' identities, pool shapes, gateway addresses and versions, fleet <-> protobuf."""

from skerry.api.common.v1 import supply_pb2
from skerry.fleet.generation import Version
from skerry.fleet.node import Node
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape


def identity_to_proto(identity: PlaneIdentity) -> supply_pb2.PlaneIdentity:
    """Return the message of who a plane is."""
    return supply_pb2.PlaneIdentity(
        name=identity.name,
        cloud=identity.cloud,
        region=identity.region,
        zone=identity.zone,
        residency_zones=identity.residency_zones,
        labels=dict(identity.labels),
    )


def identity_from_proto(message: supply_pb2.PlaneIdentity) -> PlaneIdentity:
    """Return who a plane is; ValueError when its name is not a DNS label."""
    return PlaneIdentity(
        name=message.name,
        cloud=message.cloud,
        region=message.region,
        zone=message.zone,
        residency_zones=tuple(message.residency_zones),
        labels=tuple(sorted(message.labels.items())),
    )


def pool_shape_to_proto(shape: PoolShape) -> supply_pb2.PoolShape:
    """Return the message of a pool's shape."""
    return supply_pb2.PoolShape(
        name=shape.name,
        accelerator=shape.accelerator,
        accelerator_memory_bytes=shape.accelerator_memory_bytes,
        nodes=shape.nodes,
        accelerators_per_node=shape.accelerators_per_node,
        host_memory_bytes=shape.host_memory_bytes,
        interconnect=shape.interconnect,
    )


def pool_shape_from_proto(message: supply_pb2.PoolShape) -> PoolShape:
    """Return a pool's shape; ValueError when a count is out of range."""
    return PoolShape(
        name=message.name,
        accelerator=message.accelerator,
        accelerator_memory_bytes=message.accelerator_memory_bytes,
        nodes=message.nodes,
        accelerators_per_node=message.accelerators_per_node,
        host_memory_bytes=message.host_memory_bytes,
        interconnect=message.interconnect,
    )


def node_to_proto(node: Node) -> supply_pb2.Node:
    """Return the message of a node."""
    return supply_pb2.Node(
        name=node.name,
        pool=node.pool,
        accelerators=node.accelerators,
        ready=node.ready,
        message=node.message,
    )


def node_from_proto(message: supply_pb2.Node) -> Node:
    """Return a node; ValueError when its name cannot be or it has no accelerator."""
    return Node(
        name=message.name,
        pool=message.pool,
        accelerators=message.accelerators,
        ready=message.ready,
        message=message.message,
    )


def gateway_to_proto(gateway: GatewayAddresses) -> supply_pb2.GatewayAddresses:
    """Return the message of a gateway's addresses."""
    return supply_pb2.GatewayAddresses(http=gateway.http, grpc=gateway.grpc, peer=gateway.peer)


def gateway_from_proto(message: supply_pb2.GatewayAddresses) -> GatewayAddresses:
    """Return a gateway's addresses."""
    return GatewayAddresses(http=message.http, grpc=message.grpc, peer=message.peer)


def version_to_proto(version: Version) -> supply_pb2.Version:
    """Return the message of a version."""
    return supply_pb2.Version(epoch=version.epoch, generation=version.generation)


def version_from_proto(message: supply_pb2.Version) -> Version:
    """Return a version; ValueError when it is negative."""
    return Version(epoch=message.epoch, generation=message.generation)
