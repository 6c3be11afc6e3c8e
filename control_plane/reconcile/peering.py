"""Which peers a plane is told of: all in a small fleet, some well chosen ones in a large one. Pure.

Were each of 5,000 planes told of all others, one that joins would change 5,000 desired states of
half a megabyte, and gateways would check 25 million peers. `plan.py` asks.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from control_plane.reconcile.snapshot import PlaneView
from skerry.fleet.desired import PeerPlane

# Up to so many peers a plane is told of all others.
PEERS_MAX = 64
# On a ring of all planes so many on each side watch a plane: hashed, so of many regions and clouds.
WITNESSES_EACH_SIDE = 4
# Of each deployment the nearest planes that serve it, as far as there is room.
SERVING_MAX = 4

Named = tuple[int, str]  # position on the ring, plane


@dataclass(frozen=True, slots=True, kw_only=True)
class Peering:
    """Who is whose peer in one fleet; `planes` as a desired state tells them, 0 in a small one."""

    every: Mapping[str, PeerPlane]
    planes: int
    ring: Sequence[Named]
    serving: Mapping[str, "_Serving"]

    def names(self, plane: PlaneView) -> tuple[str, ...]:
        """Return the names of a plane's peers, in order."""
        if not self.planes:
            return tuple(name for name in self.every if name != plane.name)
        at = (_position(plane.name), plane.name)
        chosen = dict.fromkeys((*_after(self.ring, at, WITNESSES_EACH_SIDE),
                                *_before(self.ring, at, WITNESSES_EACH_SIDE)))  # fmt: skip
        place = (plane.identity.cloud, plane.identity.region)
        ranked = [one.nearest(at, place) for one in self.serving.values()]
        for rank in range(SERVING_MAX):
            # The nearest of every deployment before the second nearest of any.
            for nearest in ranked:
                if rank < len(nearest) and len(chosen) < PEERS_MAX:
                    chosen[nearest[rank]] = None
        chosen.pop(plane.name, None)
        return tuple(sorted(chosen))


def peering_of(planes: Sequence[PlaneView], serving: Mapping[str, Iterable[str]]) -> Peering:
    """Return who is whose peer; `serving` are the planes of each deployment that serve it."""
    views = {view.name: view for view in sorted(planes, key=lambda view: view.name)}
    every = {name: _peer(view) for name, view in views.items() if view.gateway.peer}
    if len(every) <= PEERS_MAX + 1:
        return Peering(every=every, planes=0, ring=(), serving={})
    return Peering(
        every=every,
        planes=1 << (len(views) - 1).bit_length(),
        ring=sorted((_position(name), name) for name in every),
        serving={
            deployment: _Serving.of([views[name] for name in names if name in every])
            for deployment, names in sorted(serving.items())
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """The planes that serve a deployment, by place: a region of a cloud, a cloud, everywhere."""

    places: Mapping[tuple[str, ...], Sequence[Named]]

    @staticmethod
    def of(views: Iterable[PlaneView]) -> "_Serving":
        places: dict[tuple[str, ...], list[Named]] = {}
        for view in views:
            named = (_position(view.name), view.name)
            cloud, region = view.identity.cloud, view.identity.region
            for place in ((cloud, region), (cloud,), ()):
                places.setdefault(place, []).append(named)
        return _Serving(places={place: sorted(found) for place, found in places.items()})

    def nearest(self, at: Named, place: tuple[str, str]) -> list[str]:
        """Return the nearest of them, of equally near ones the next on the ring."""
        found: dict[str, None] = {}
        for near in (place, place[:1], ()):
            for name in _after(self.places.get(near, ()), at, SERVING_MAX):
                if len(found) < SERVING_MAX:
                    found[name] = None
        return list(found)


def _after(ring: Sequence[Named], at: Named, count: int) -> Iterator[str]:
    """Yield the next planes of a ring, the plane at that position left out."""
    begin = bisect_right(ring, at)
    for step in range(min(count, len(ring))):
        name = ring[(begin + step) % len(ring)][1]
        if name != at[1]:
            yield name


def _before(ring: Sequence[Named], at: Named, count: int) -> Iterator[str]:
    end = bisect_right(ring, at) - 1
    for step in range(1, min(count, len(ring)) + 1):
        name = ring[(end - step) % len(ring)][1]
        if name != at[1]:
            yield name


@lru_cache(maxsize=16_384)
def _position(plane: str) -> int:
    return int.from_bytes(hashlib.sha256(plane.encode()).digest()[:8])


def _peer(view: PlaneView) -> PeerPlane:
    return PeerPlane(
        plane=view.name,
        cloud=view.identity.cloud,
        region=view.identity.region,
        peer_address=view.gateway.peer,
        residency_zones=view.identity.residency_zones,
    )
