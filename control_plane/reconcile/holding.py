"""What a plane goes on holding, or may not begin yet, whatever the newest plan places. Pure.

Three rules of `envelopes`: what serves does not end while its deployment is short of replicas and
nothing else takes the room; what shares no plane with another waits until that one has gone; what
waits to be replaced gives way before that where its deployment has more than it wants.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from heapq import heapify, heappop, heappush

from control_plane.reconcile.rivals import apart, owners_of
from control_plane.reconcile.shares import Shares
from control_plane.reconcile.snapshot import Snapshot
from scheduler.grid import domain_of
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool, resides

Key = tuple[str, str]  # deployment, pool


@dataclass(slots=True, kw_only=True)
class _Surplus:
    """How many serve of a deployment beyond what is wanted, and who are left by a domain's loss.

    `domains` of the pools and `serving` by domain are empty where nothing is promised.
    """

    left: int
    survivors: float = 0.0  # at least so many
    domains: Mapping[str, str] = field(default_factory=dict)
    serving: Counter[str] = field(default_factory=Counter)

    def has(self, pool: str, count: int) -> bool:
        """Say whether so many on the pool may go."""
        if count > self.left or not self.domains:
            return count <= self.left
        return self.survivors_without(self.domains.get(pool, ""), count) >= self.survivors

    def survivors_without(self, domain: str, count: int) -> int:
        """Return how many the worst loss leaves without so many of a domain."""
        counts = dict(self.serving)
        counts[domain] = counts.get(domain, 0) - count
        return sum(counts.values()) - max(counts.values())

    def lose(self, pool: str, count: int) -> None:
        """Take so many on the pool for gone."""
        self.left -= count
        if self.domains:
            self.serving[self.domains.get(pool, "")] -= count


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
        owners = owners_of(self.snapshot.demands)
        for name, deployment in self.deployments.items():
            # Whoever of the two says so; those of other projects are nobody's to keep away.
            for other in apart(deployment, owners).policy.anti_affinity:
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
        serving: Callable[[str], Counter[str]],
        fitted: Callable[[Mapping[Key, Envelope]], Mapping[Key, Envelope]],
    ) -> None:
        """Lessen in `granted` what is `waiting` to be replaced where another cannot grow beside it.

        Two deployments that change places on full pools would wait for each other for ever. Room
        above a target that nothing uses goes first. Of replicas only those go that a deployment
        has beyond all that is wanted of it, as far as its `tolerate` holds without them, never the
        last of a pool, and none for nothing: each time as few as let one more replica of another
        begin, where most of them are. `waiting` tells how many are to stay, `serving` how many
        serve for good by pool, `fitted` what of some pools' envelopes has its place there.
        """
        here: dict[str, dict[Key, Envelope]] = {pool: {} for _, pool in waiting}
        for key, envelope in granted.items():
            if key[1] in here:
                here[key[1]][key] = envelope
        stay = {key: max(count, 1) for key, count in waiting.items()}

        @cache
        def surplus(name: str) -> _Surplus:
            return self._surplus(self.deployments[name], serving(name))

        left = [(-_most(here[pool], stay), pool) for pool in here]
        heapify(left)
        while left:
            _, pool = heappop(left)
            found = self._with_one_more(here[pool], stay, surplus, fitted)
            if found is None:  # nor later: there is only less to spare then
                continue
            for key, envelope in found.items():
                if envelope.target < here[pool][key].target:
                    surplus(key[0]).lose(pool, here[pool][key].target - envelope.target)
            granted.update(found)
            here[pool] = found
            heappush(left, (-_most(found, stay), pool))

    def _with_one_more(
        self,
        here: dict[Key, Envelope],
        stay: Mapping[Key, int],
        surplus: Callable[[str], _Surplus],
        fitted: Callable[[Mapping[Key, Envelope]], Mapping[Key, Envelope]],
    ) -> dict[Key, Envelope] | None:
        """Return a pool's envelopes lessened so that another's replica begins; None if none can."""
        before = fitted(here)
        short = [key for key in here if key not in stay and before[key].target < here[key].target]
        if not short:
            return None
        mine = here.keys() & stay.keys()
        whole = here | {key: self._without_room(here[key]) for key in mine}

        def begins(gone: Counter[Key]) -> bool:
            after = fitted(_lessened(whole, gone))
            return any(after[key].target > before[key].target for key in short)

        taken = Counter[Key]()
        while not begins(taken):
            for key in sorted(mine, key=lambda one: (taken[one] - whole[one].target, one)):
                count = taken[key] + 1
                if whole[key].target - count >= stay[key] and surplus(key[0]).has(key[1], count):
                    taken[key] += 1
                    break
            else:
                return None
        for key in taken.elements():  # a large one that went last may be enough by itself
            fewer = taken - Counter([key])
            taken = fewer if begins(fewer) else taken
        return _lessened(whole, taken)

    def _without_room(self, held: Envelope) -> Envelope:
        """Return it without the room above its target, but for what runs there."""
        view = self.snapshot.plane(self._plane(held.pool))
        replicas = view.replicas(held.deployment, held.pool) if view is not None else ()
        running = sum(one.state in (ReplicaState.STARTING, ReplicaState.READY) for one in replicas)
        return replace(held, ceiling=min(held.ceiling, max(held.target, running)))

    def _surplus(self, own: Deployment, serving: Counter[str]) -> _Surplus:
        wanted = max(self._placed[own.name], own.scaling.min_replicas)
        found = _Surplus(left=serving.total() - wanted)
        tolerate = own.policy.tolerate
        if tolerate is not None:
            domain = tolerate.domain
            found.domains = {pool: domain_of(self.pools[pool], domain) for pool in serving}
            for pool, count in serving.items():
                found.serving[found.domains[pool]] += count
            found.survivors = min(round(tolerate.keep * wanted, 6), found.survivors_without("", 0))
        return found

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


def _most(here: Mapping[Key, Envelope], waiting: Mapping[Key, int]) -> int:
    return max(envelope.target for key, envelope in here.items() if key in waiting)


def _lessened(here: Mapping[Key, Envelope], gone: Counter[Key]) -> dict[Key, Envelope]:
    """Return the envelopes, each with so many replicas less."""
    found = dict(here)
    for key, count in gone.items():
        held, target = here[key], here[key].target - count
        floor, ceiling = min(held.floor, target), held.ceiling - count
        found[key] = replace(held, floor=floor, target=target, ceiling=ceiling)
    return found
