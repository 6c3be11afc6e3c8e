"""Cordons: parts of the fleet where nothing new is placed. What runs there goes on, unless drained.

The store keeps them, reconciliation heeds them, planes are told of those of their nodes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from skerry.fleet.names import SEPARATOR, InvalidName, check_name, check_part
from skerry.fleet.pool import PlaneIdentity, Pool

REGION_SEPARATOR = "/"  # CLOUD/REGION: the same region's name may be used by two clouds


class Scope(StrEnum):
    """How much of the fleet a cordon is of."""

    NODE = "node"
    POOL = "pool"
    PLANE = "plane"
    REGION = "region"
    CLOUD = "cloud"


class CordonState(StrEnum):
    """What may happen in a part of the fleet."""

    OPEN = "open"  # it takes replicas
    CORDONED = "cordoned"  # it takes nothing new
    DRAINING = "draining"  # and what runs there goes elsewhere, new before old


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the fleet: PLANE--NODE, PLANE--POOL, PLANE, CLOUD/REGION or CLOUD by its scope."""

    scope: Scope
    name: str

    def __post_init__(self) -> None:
        parts = self.name.split(REGION_SEPARATOR)
        wanted = 2 if self.scope is Scope.REGION else 1
        joined = self.scope in (Scope.NODE, Scope.POOL)
        if len(parts) != wanted or joined != (SEPARATOR in self.name):
            raise InvalidName(
                f"{self.scope.value} {self.name[:120]!r} must look like {LOOKS[self.scope]}"
            )
        for part in parts:
            check_name(part, self.scope.value)
        if joined:
            plane, _, own = self.name.partition(SEPARATOR)
            check_part(plane, "plane")
            check_part(own, self.scope.value)

    @property
    def resource(self) -> str:
        """Return the collection and name as the API has them, e.g. `planes/onprem-fra`."""
        return f"{self.scope.value}s/{self.name}"


LOOKS = {
    Scope.NODE: "PLANE--NODE",
    Scope.POOL: "PLANE--POOL",
    Scope.PLANE: "PLANE",
    Scope.REGION: "CLOUD/REGION",
    Scope.CLOUD: "CLOUD",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """A part that takes nothing new: who said so, why and since when."""

    part: Part
    actor: str
    reason: str
    since: datetime
    draining: bool = False


def names_of(plane: PlaneIdentity) -> dict[Scope, str]:
    """Return the names of what a plane is or lies in, the smallest first."""
    return {
        Scope.PLANE: plane.name,
        Scope.REGION: f"{plane.cloud}{REGION_SEPARATOR}{plane.region}",
        Scope.CLOUD: plane.cloud,
    }


class Cordons:
    """Answers which pools and nodes a set of cordons is about."""

    def __init__(self, cordons: Iterable[Cordon]) -> None:
        """Take the cordons that hold."""
        self._of: dict[tuple[Scope, str], Cordon] = {}
        self._nodes: dict[str, list[Cordon]] = {}
        for cordon in sorted(cordons, key=lambda cordon: cordon.part.name):
            self._of[cordon.part.scope, cordon.part.name] = cordon
            if cordon.part.scope is Scope.NODE:
                plane = cordon.part.name.partition(SEPARATOR)[0]
                self._nodes.setdefault(plane, []).append(cordon)

    def of_pool(self, pool: Pool) -> Cordon | None:
        """Return the cordon that a pool lies in; of several one that drains, then the smallest."""
        if not self._of:
            return None
        names = ((Scope.POOL, pool.name), *names_of(pool.plane).items())
        found = [self._of[name] for name in names if name in self._of]
        return next((cordon for cordon in found if cordon.draining), next(iter(found), None))

    def of_node(self, node: str) -> Cordon | None:
        """Return the cordon of a node by its fleet-wide id, whatever its pool's is."""
        return self._of.get((Scope.NODE, node))

    def of_nodes(self, plane: str) -> tuple[Cordon, ...]:
        """Return the cordons of a plane's nodes, by name."""
        return tuple(self._nodes.get(plane, ()))


def lies_in(pool: Pool, part: Part) -> bool:
    """Say whether all of a pool lies in a part; no pool lies in a node."""
    if part.scope is Scope.POOL:
        return pool.name == part.name
    return names_of(pool.plane).get(part.scope) == part.name


def planes_in(part: Part, planes: Collection[PlaneIdentity]) -> tuple[str, ...]:
    """Return the names of the planes that a part is of or has a share of, by name."""
    if part.scope in (Scope.NODE, Scope.POOL):
        plane = part.name.partition(SEPARATOR)[0]
        return tuple(identity.name for identity in planes if identity.name == plane)
    return tuple(sorted(p.name for p in planes if names_of(p)[part.scope] == part.name))
