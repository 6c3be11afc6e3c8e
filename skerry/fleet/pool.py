"""Supply: planes, and their pools of interchangeable accelerators."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.fleet.names import check_part, pool_name

NODES_MAX = 10_000_000  # of one pool; sums of memory and accelerators stay in 64 bits
ACCELERATORS_PER_NODE_MAX = 1_024
NODE_HOST_MEMORY_BYTES_MAX = 2**50  # a pebibyte
PRICE_MAX = 10_000.0  # dollars of one accelerator-hour; above it a price is a typing error


class CapacityClass(StrEnum):
    """How the capacity is held; decides what may be taken away and what is used first."""

    RESERVED = "reserved"
    ON_DEMAND = "on_demand"
    SPOT = "spot"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShape:
    """What a plane reports of one of its pools: same-shaped nodes of one accelerator kind.

    Memory in bytes; `accelerator_memory_bytes` is of one accelerator, `host_memory_bytes` of one
    node. `nodes` counts the nodes that are fit for work.
    """

    name: str
    accelerator: str
    accelerator_memory_bytes: int
    nodes: int
    accelerators_per_node: int
    host_memory_bytes: int
    interconnect: str = ""

    def __post_init__(self) -> None:
        check_part(self.name, "pool")
        if self.nodes < 0 or self.accelerators_per_node < 1 or self.host_memory_bytes < 0:
            raise ValueError(f"pool {self.name!r}: nodes, accelerators and memory out of range")
        for what, value, most in (
            ("nodes", self.nodes, NODES_MAX),
            ("accelerators per node", self.accelerators_per_node, ACCELERATORS_PER_NODE_MAX),
            ("bytes of host memory", self.host_memory_bytes, NODE_HOST_MEMORY_BYTES_MAX),
        ):
            if value > most:
                raise ValueError(f"pool {self.name!r}: {value} {what}; at most {most}")

    @property
    def accelerators(self) -> int:
        """Return the accelerators of the pool."""
        return self.nodes * self.accelerators_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTerms:
    """What the operator says of a pool: class, price in USD per accelerator-hour, cordon.

    `price_per_accelerator_hour` None means "not told": nothing is placed there until it is, because
    an unknown price is not a price of zero.
    """

    capacity_class: CapacityClass = CapacityClass.ON_DEMAND
    price_per_accelerator_hour: float | None = None
    cordoned: bool = False

    def __post_init__(self) -> None:
        price = self.price_per_accelerator_hour
        if price is not None and not (math.isfinite(price) and 0.0 <= price <= PRICE_MAX):
            raise ValueError(f"a price must be 0..{PRICE_MAX:g} dollars an hour, not {price}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneIdentity:
    """Who a plane says it is; fixed for its life."""

    name: str
    cloud: str
    region: str
    zone: str = ""
    residency_zones: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_part(self.name, "plane")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddresses:
    """Where a plane's gateway listens, as `host:port`: users' HTTP and gRPC, peers' mTLS."""

    http: str
    grpc: str
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool with its plane and its terms: what the scheduler places on."""

    plane: PlaneIdentity
    shape: PoolShape
    terms: PoolTerms = field(default_factory=PoolTerms)

    @property
    def name(self) -> str:
        """Return the fleet-wide id, `PLANE--POOL`."""
        return pool_name(self.plane.name, self.shape.name)


def resides(zones: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Say whether a plane in all of `zones` lies in one of the `allowed` ones; fails closed.

    A plane's zones are nested (Frankfurt is in `de` and in `eu`), so one of them is enough. With
    nothing allowed by name everything is; a plane that tells no zone lies in none.
    """
    return not allowed or not set(allowed).isdisjoint(zones)
