"""What a plane goes on holding, or may not begin yet, whatever the newest plan places. Pure.

Three rules of `envelopes`: what serves does not end while its deployment is short of replicas and
nothing else takes the room; what shares no plane with another waits until that one has gone; what
waits to be replaced gives way before that where its deployment has more than it wants.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from control_plane.reconcile.shares import Shares
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool, resides

Key = tuple[str, str]  # deployment, pool


@dataclass(slots=True, kw_only=True)
class Holding:
    """The plan's targets by deployment and pool, and how many replicas each deployment lacks."""

    snapshot: Snapshot
    shares: Shares
    deployments: Mapping[str, Deployment]
    wanted: Mapping[Key, Envelope]
    held: Mapping[Key, Envelope]
    pools: dict[str, Pool] = field(init=False)
    _placed: Counter[str] = field(init=False)
    _lacking: Counter[str] = field(init=False)
    _taken: Counter[str] = field(init=False)
    _rivals: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Count what the plan leaves without a place, and what it takes of every pool."""
        self.pools = {pool.name: pool for pool in self.snapshot.pools}
        self._placed, self._taken = Counter[str](), Counter[str]()
        for (name, pool), envelope in self.wanted.items():
            self._placed[name] += envelope.target
            if name in self.deployments and pool in self.pools:
                self._taken[pool] += envelope.target * self._size(name, pool)
        self._rivals = {}
        for name, deployment in self.deployments.items():
            for other in deployment.policy.anti_affinity:  # whoever of the two says so
                self._rivals.setdefault(name, set()).add(other)
                self._rivals.setdefault(other, set()).add(name)
        self._lacking = Counter(
            {
                name: deployment.scaling.min_replicas - self._placed[name]
                for name, deployment in self.deployments.items()
            }
        )

    def stays(self, key: Key, held: int, target: int) -> int:
        """Return how many more than `target` stay of the `held` that the plane has.

        They were to leave for a place that is lost by now: without another one they go on serving,
        as far as residency and its rivals allow it and the plan gives the room to nobody else.
        """
        name, pool = key
        lacking = self._lacking[name]
        if lacking <= 0 or not held or pool not in self.pools:
            return 0
        zones = self.deployments[name].policy.residency_zones
        if not resides(self.pools[pool].plane.residency_zones, zones) or self._is_rivalled(key):
            return 0
        free = self.pools[pool].shape.accelerators - self._taken[pool]
        view = self.snapshot.plane(self._plane(pool))
        replicas = view.replicas(name, pool) if view is not None else ()
        serving = sum(one.state is ReplicaState.READY for one in replicas)
        room = min(held, serving) - target
        count = max(0, min(lacking, room, free // self._size(name, pool)))
        self._lacking[name] -= count
        self._taken[pool] += count * self._size(name, pool)
        return count

    def must_wait(self, key: Key) -> bool:
        """Say whether a rival still holds, or runs, something on the plane where this one begins.

        New before old has no meaning between two that may not meet.
        """
        before = self.held.get(key)
        if (before is not None and before.target > 0) or key[1] not in self.pools:
            return False
        plane = self.pools[key[1]].plane.name
        rivals = self._rivals.get(key[0])
        if not rivals:
            return False
        if any(
            name in rivals and envelope.ceiling > 0 and self._plane(pool) == plane
            for (name, pool), envelope in self.held.items()
        ):
            return True
        view = self.snapshot.plane(plane)
        report = view.link.report if view is not None else None
        return report is not None and any(
            replica.deployment in rivals and replica.state is not ReplicaState.FAILED
            for replica in report.replicas
        )

    def give_way(
        self,
        granted: dict[Key, Envelope],
        waiting: Mapping[Key, int],
        spare: Callable[[Deployment, int], int],
    ) -> None:
        """Lessen in `granted` what is `waiting` to be replaced where another cannot grow beside it.

        Two deployments that change places on full pools would wait for each other for ever. Only
        what a deployment has beyond all that is wanted of it goes, and never the last of a pool: it
        is spread as before. `waiting` tells how many are to stay, `spare` how many serve beyond a
        number.
        """
        crowd = self._overfull(granted, {pool for _, pool in waiting})
        left: dict[str, int] = {}
        for key, stay in sorted(waiting.items()):
            name, pool = key
            if crowd[pool] <= 0:
                continue
            if name not in left:
                own = self.deployments[name]
                left[name] = spare(own, max(self._placed[name], own.scaling.min_replicas))
            held, size = granted[key], self._size(name, pool)
            count = min(held.target - max(stay, 1), left[name], -(-crowd[pool] // size))
            if count <= 0:
                continue
            left[name] -= count
            crowd[pool] -= count * size
            target = held.target - count
            floor, ceiling = min(held.floor, target), held.ceiling - count
            granted[key] = replace(held, floor=floor, target=target, ceiling=ceiling)

    def _overfull(self, granted: Mapping[Key, Envelope], pools: set[str]) -> Counter[str]:
        """Return by how many accelerators more is to run on each pool than it has."""
        over = Counter({name: -self.pools[name].shape.accelerators for name in pools})
        for (name, pool), envelope in granted.items():
            if pool in pools:
                over[pool] += envelope.target * self._size(name, pool)
        return over

    def _is_rivalled(self, key: Key) -> bool:
        plane, rivals = self._plane(key[1]), self._rivals.get(key[0], set())
        return any(
            name in rivals and envelope.target > 0 and self._plane(pool) == plane
            for (name, pool), envelope in self.wanted.items()
        )

    def _plane(self, pool: str) -> str:
        return self.pools[pool].plane.name if pool in self.pools else ""

    def _size(self, name: str, pool: str) -> int:
        kind = self.pools[pool].shape.accelerator
        return self.shares.size(self.deployments[name], kind)
