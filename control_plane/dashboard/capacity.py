"""Sums over planes, pools and placements: what the fleet page draws. Pure; `fleet.py` calls it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from skerry.client.rows import DeploymentRow, PlacementRow, PlaneRow, PoolRow
from skerry.fleet.observation import PlaneState
from skerry.fleet.pool import CapacityClass


@dataclass(slots=True, kw_only=True)
class Capacity:
    """Accelerators of some pools; money in USD per hour for what is placed on them."""

    accelerators: int = 0
    placed: int = 0
    cordoned: int = 0
    unpriced: int = 0
    dollars_per_hour: float = 0.0
    prices: set[float] = field(default_factory=set)
    classes: Counter[str] = field(default_factory=Counter)
    # By ceilings of envelopes; None where they were not summed.
    granted: int | None = None

    @property
    def free(self) -> int:
        """Return what neither runs nor may be started inside an envelope."""
        return max(0, self.accelerators - max(self.placed, self.granted or 0))

    @property
    def headroom(self) -> int:
        """Return what envelopes allow beyond what is placed."""
        return max(0, min(self.granted or 0, self.accelerators) - self.placed)

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Return what a bar is made of, by the style's name and in its order."""
        used = min(self.placed, self.accelerators)
        return (("used", used), ("headroom", self.headroom), ("free", self.free))

    @property
    def class_parts(self) -> tuple[tuple[str, int], ...]:
        """Return the accelerators by how they are held."""
        return tuple((kind.value, self.classes[kind.value]) for kind in CapacityClass)

    @property
    def price_text(self) -> str:
        """Return what one accelerator costs an hour, empty where no price is told."""
        if not self.prices:
            return ""
        low, high = min(self.prices), max(self.prices)
        return f"${low:,.2f}" if low == high else f"${low:,.2f}–${high:,.2f}"

    def add(self, pool: PoolRow) -> None:
        """Count a pool."""
        if pool.shape is None:
            return
        count, price = pool.shape.accelerators, pool.terms.price_per_accelerator_hour
        self.accelerators += count
        self.placed += pool.accelerators_placed
        self.classes[pool.terms.capacity_class.value] += count
        if pool.terms.cordoned:
            self.cordoned += count
        if price is None:
            self.unpriced += count
        else:
            self.prices.add(price)
            self.dollars_per_hour += price * pool.accelerators_placed


@dataclass(slots=True, kw_only=True)
class Place:
    """A region of a cloud: its planes by name and state, and what they have."""

    cloud: str
    region: str
    planes: list[tuple[str, PlaneState]] = field(default_factory=list)
    states: Counter[PlaneState] = field(default_factory=Counter)
    capacity: Capacity = field(default_factory=Capacity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The fleet in sums."""

    states: Counter[PlaneState]
    places: tuple[Place, ...]
    kinds: tuple[tuple[str, Capacity], ...]
    planes: Mapping[str, Capacity]
    whole: Capacity

    @property
    def clouds(self) -> tuple[tuple[str, tuple[Place, ...]], ...]:
        """Return the places by cloud."""
        names = dict.fromkeys(place.cloud for place in self.places)
        return tuple((n, tuple(p for p in self.places if p.cloud == n)) for n in names)


def sum_fleet(
    planes: Iterable[PlaneRow],
    pools: Iterable[PoolRow],
    ceilings: Mapping[str, int] | None,
) -> Summary:
    """Return the sums; `ceilings` are accelerators by pool, None where they are not known."""
    places: dict[tuple[str, str], Place] = {}
    of_plane: dict[str, Place] = {}
    states: Counter[PlaneState] = Counter()
    for plane in planes:
        at = (plane.identity.cloud, plane.identity.region)
        place = places.setdefault(at, Place(cloud=at[0], region=at[1]))
        place.planes.append((plane.name, plane.state))
        place.states[plane.state] += 1
        states[plane.state] += 1
        of_plane[plane.name] = place
    kinds: dict[str, Capacity] = {}
    by_plane: dict[str, Capacity] = {}
    whole = Capacity()
    for pool in pools:
        if pool.shape is None:
            continue
        counted = [
            kinds.setdefault(pool.shape.accelerator, Capacity()),
            by_plane.setdefault(pool.plane, Capacity()),
            whole,
        ]
        if pool.plane in of_plane:
            counted.append(of_plane[pool.plane].capacity)
        for capacity in counted:
            capacity.add(pool)
            if ceilings is not None:
                capacity.granted = (capacity.granted or 0) + ceilings.get(pool.name, 0)
    return Summary(
        states=states,
        places=tuple(places[at] for at in sorted(places)),
        kinds=tuple(sorted(kinds.items())),
        planes=by_plane,
        whole=whole,
    )


def ceilings_by_pool(
    placements: Iterable[PlacementRow],
    deployments: Iterable[DeploymentRow],
    pools: Iterable[PoolRow],
) -> dict[str, int]:
    """Return the accelerators that envelopes allow, by pool."""
    kinds = {pool.name: pool.shape.accelerator for pool in pools if pool.shape is not None}
    revisions = {row.name: row.deployment.revision for row in deployments}
    found: Counter[str] = Counter()
    for placement in placements:
        revision = revisions.get(placement.deployment)
        kind = kinds.get(placement.pool)
        if revision is None or kind is None or placement.envelope is None:
            continue
        shape = revision.shape_on(kind)
        if shape is not None:
            found[placement.pool] += placement.envelope.ceiling * shape.accelerators
    return dict(found)
