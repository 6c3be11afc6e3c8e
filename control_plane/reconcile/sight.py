"""Sight: one read of the store and the link as a Snapshot; does I/O, decides nothing.

The link's memory is copied at one moment, on the loop that writes it; of a large fleet the rest is
made in a thread, while the loop goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from control_plane.reconcile.key_scopes import is_shared, scoped
from control_plane.reconcile.missing import Missing, look_for
from control_plane.reconcile.pace import beside
from control_plane.reconcile.policy import ReconcilePolicy, policy_for, with_regions
from control_plane.reconcile.snapshot import Demand, LinkView, PlaneView, Removed, Snapshot
from control_plane.store.engine import Database
from control_plane.store.leases import list_leases
from control_plane.store.reads import StoreReads
from control_plane.store.snapshot import StoreSnapshot, renew
from control_plane.store.values import StoredDesired, StoredEntry, StoredPlane, StoredRemoval
from skerry.fleet.api_key import ApiKey
from skerry.fleet.catalogue import Region, RegisteredModel
from skerry.fleet.desired import DesiredState
from skerry.fleet.digests import Digests
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneReport, PlaneState
from skerry.fleet.profile import Profile, Profiles
from skerry.fleet.rollout import Stage
from skerry.plumbing.clock import Clock


class LiveLinks(Protocol):
    """What the link remembers; control_plane.link.registry.Registry is the real one."""

    @property
    def since_start_seconds(self) -> float:
        """Return the age of this control plane on the monotonic clock."""

    @property
    def news(self) -> int:
        """Return a number that rises with whatever a plane's judgement may rest on but time."""

    @property
    def revoked_planes(self) -> tuple[str, ...]:
        """Return the planes that are let in no more, by name."""

    def views(self) -> Mapping[str, LinkView]:
        """Return what is known of the link of every plane heard, by name."""


class Outages(Protocol):
    """When the database was away; control_plane.leading.outage.DatabaseSight is the real one."""

    def seconds_since_back(self, now: float) -> float | None:
        """Return how long it has been back; 0 while it is away, None when it never was."""


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What was looked at: of two looks with the same mark nothing but time has passed between."""

    stored: StoreSnapshot
    news: int

    def is_same(self, other: "Mark") -> bool:
        """Say whether the other one is of the same store and the same words of planes."""
        return self.stored is other.stored and self.news == other.news


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """All that a snapshot is made of beside the store, as of one moment."""

    now: datetime
    monotonic: float
    since_start_seconds: float
    since_back_seconds: float | None
    links: Mapping[str, LinkView]
    revoked_planes: tuple[str, ...]


class Sight:
    """Looks at the fleet; one look at a time, however many ask."""

    def __init__(
        self,
        database: Database,
        links: LiveLinks,
        clock: Clock,
        policy: ReconcilePolicy,
        decode: Callable[[bytes, Version], DesiredState],
        *,
        outages: Outages | None = None,
    ) -> None:
        self._database = database
        self._read: Callable[[], Awaitable[StoreSnapshot]] = self._read_alone
        self._looking = asyncio.Lock()
        self._links = links
        self._clock = clock
        self._policy = policy
        self._decode = decode
        self._outages = outages
        self._missing = Missing()
        self._whole: dict[str, tuple[StoredPlane, PlaneReport]] = {}  # who reports all its pools
        self._stored: StoreSnapshot | None = None
        self._told: dict[str, tuple[StoredDesired, DesiredState]] = {}
        self._states: _States | None = None
        self._regions: tuple[Region, ...] = ()
        self._with_regions = policy
        self._measured: tuple[StoredEntry[Profile], ...] = ()
        self._profiles: Profiles = {}
        self._registered: tuple[RegisteredModel, ...] = ()
        self._digests: Digests = {}
        self._heard_at: dict[str, datetime] = {}
        self._recalled: frozenset[str] = frozenset()
        self._age_seconds = 0.0
        self._removals: tuple[StoredRemoval, ...] = ()
        self._removed: tuple[Removed, ...] = ()
        self._keys_from: StoreSnapshot | None = None
        self._keys: tuple[ApiKey, ...] | None = None

    def share(self, reads: StoreReads) -> None:
        """Read the store from now on together with whoever else looks at the whole of it."""
        self._read = reads.snapshot

    async def look(self) -> Snapshot:
        """Return the fleet as stored and as heard, at one `now`."""
        async with self._looking:
            stored = await self._read()
            mark, links = Mark(stored, self._links.news), self._links.views()
            if await self._recall(stored, links):
                mark, links = Mark(stored, self._links.news), self._links.views()
            moment = _Moment(
                now=self._clock.now(),
                monotonic=self._clock.monotonic(),
                since_start_seconds=self._links.since_start_seconds,
                since_back_seconds=(
                    self._outages.seconds_since_back(self._clock.monotonic())
                    if self._outages
                    else None
                ),
                links=links,
                revoked_planes=self._links.revoked_planes,
            )
            planes, deployments = len(stored.planes), len(stored.deployments)
            return await beside(planes, deployments, self._snapshot, mark, moment)

    async def mark(self) -> Mark:
        """Return what a look would be of now."""
        stored = await self._read()
        return Mark(stored, self._links.news)

    async def _read_alone(self) -> StoreSnapshot:
        self._stored = await self._database.run_read(renew, self._stored)
        return self._stored

    def _snapshot(self, mark: Mark, moment: _Moment) -> Snapshot:
        stored, now = mark.stored, moment.now
        states = self._desired(stored)
        return Snapshot(
            now=now,
            mark=mark,
            since_start_seconds=moment.since_start_seconds,
            since_database_back_seconds=moment.since_back_seconds,
            policy=policy_for(self._policy_for(stored.regions), len(stored.planes)),
            demands=_demands(stored),
            planes=self._planes(stored, moment),
            pools=tuple(p.pool for p in stored.pools_at(now)),
            placements=stored.placements,
            cordons=stored.cordons,
            desired=states.decoded,
            payloads=states.payloads,
            profiles=self._profiles_of(stored.profiles),
            digests=self._digests_of(stored.base_models),
            rollouts=stored.rollouts,
            revisions=stored.rolled.revisions,
            removed=self._removed_of(stored.removals),
            scalings=stored.scalings,
            api_keys=self._keys_of(stored),
            revoked_planes=moment.revoked_planes,
        )

    async def _recall(self, stored: StoreSnapshot, heard: Mapping[str, LinkView]) -> bool:
        """Read when planes that were not heard in this run were heard last; say whether it was.

        Once for all of them: nobody but us writes it while we lead.
        """
        age, unheard = self._links.since_start_seconds, _unheard(stored, heard)
        if age < self._age_seconds:  # another term of ours: somebody else led meanwhile
            self._recalled = frozenset()
        self._age_seconds = age
        if unheard <= self._recalled:
            return False
        leases = await self._database.run_read(list_leases, self._clock.now())
        self._heard_at = {name: lease.heard_at for name, lease in leases.items()}
        self._recalled = unheard
        return True

    def _policy_for(self, regions: tuple[Region, ...]) -> ReconcilePolicy:
        """Return the policy with what regions tell; the same value while they do not move."""
        if regions != self._regions:
            self._regions, self._with_regions = regions, with_regions(self._policy, regions)
        return self._with_regions

    def _profiles_of(self, measured: tuple[StoredEntry[Profile], ...]) -> Profiles:
        """Return the profiles by key; the same value while none of them moves."""
        if measured is not self._measured:
            self._measured = measured
            self._profiles = {entry.value.key: entry.value for entry in measured}
        return self._profiles

    def _digests_of(self, registered: tuple[RegisteredModel, ...]) -> Digests:
        """Return what base models must contain, by URI; the same value while none of them moves."""
        if registered is not self._registered:
            self._registered = registered
            self._digests = {one.uri: one.sha256 for one in registered if one.sha256}
        return self._digests

    def _removed_of(self, removals: tuple[StoredRemoval, ...]) -> tuple[Removed, ...]:
        """Return what was removed; the same value while nothing more was."""
        if removals is not self._removals:
            self._removals = removals
            self._removed = tuple(
                Removed(
                    deployment=one.deployment,
                    last_revision=one.last_revision,
                    removed_at=one.removed_at,
                )
                for one in removals
            )
        return self._removed

    def _keys_of(self, stored: StoreSnapshot) -> tuple[ApiKey, ...] | None:
        """Return the keys in force; the same value while none of them moves.

        Those that ended too: each gateway knows the time itself.
        """
        held, self._keys_from = self._keys_from, stored
        if held is None or not _same_keys(held, stored):
            keys = _keys_told(stored)
            self._keys = self._keys if keys == self._keys else keys
        return self._keys

    def _desired(self, stored: StoreSnapshot) -> "_States":
        """Return what every plane was told; only what it was told anew is decoded again."""
        states = self._states
        if states is not None and states.stored is stored.desired:
            return states
        # Those of a thousand planes with ten deployments take a second to decode.
        told: dict[str, tuple[StoredDesired, DesiredState]] = {}
        for plane, state in sorted(stored.desired.items()):
            held = self._told.get(plane)
            if held is None or held[0] is not state:
                held = state, self._decoded(plane, state)
            told[plane] = held
        self._told = told
        states = self._states = _States(
            stored=stored.desired,
            decoded=tuple(decoded for _, decoded in told.values()),
            payloads={plane: state.payload for plane, (state, _) in told.items()},
        )
        return states

    def _decoded(self, plane: str, state: StoredDesired) -> DesiredState:
        if not state.payload:  # only its generation is known: nothing was ever told under it
            return DesiredState(plane=plane, version=state.version)
        return self._decode(state.payload, state.version)

    def _planes(self, stored: StoreSnapshot, moment: _Moment) -> tuple[PlaneView, ...]:
        known = {plane.identity.name: plane for plane in stored.planes}
        self._look_for(known, moment)
        unheard = LinkView(connected=False, silent_seconds=moment.since_start_seconds)
        views = [
            PlaneView(
                identity=plane.identity,
                gateway=plane.gateway,
                shapes=plane.pools,
                condition=plane.condition,
                link=moment.links.get(name, unheard),
                nodes_digest=plane.nodes_digest,
                missing=self._missing.of(name),
                heard_at=self._heard_at.get(name),
            )
            for name, plane in known.items()
        ]
        views += [
            # Heard for the first time: the plan records it.
            PlaneView(
                identity=link.report.identity,
                gateway=link.report.gateway,
                shapes=(),
                condition=None,
                link=link,
            )
            for name, link in moment.links.items()
            if name not in known and link.report is not None
        ]
        return tuple(sorted(views, key=lambda view: view.name))

    def _look_for(self, known: Mapping[str, StoredPlane], moment: _Moment) -> None:
        """Look for missing pools, of those planes alone that may have others than at the last."""
        reports = {
            name: link.report
            for name, link in moment.links.items()
            if link.report is not None and name in known
        }
        whole, sought = {}, {}
        for name, report in reports.items():
            plane, held = known[name], self._whole.get(name)
            if held is not None and held[0] is plane and held[1] is report:
                whole[name] = held
            else:
                sought[name] = tuple(shape.name for shape in plane.pools)
        self._missing = look_for(self._missing, sought, reports, moment.monotonic)
        for name in sought.keys() - self._missing.since.keys():
            whole[name] = known[name], reports[name]
        self._whole = whole


@dataclass(frozen=True, slots=True, kw_only=True)
class _States:
    """What planes were told as it is stored, and decoded, in order of their names."""

    stored: Mapping[str, StoredDesired]
    decoded: tuple[DesiredState, ...]
    payloads: Mapping[str, bytes]


def _unheard(stored: StoreSnapshot, heard: Mapping[str, LinkView]) -> frozenset[str]:
    """Return the planes that are not lost and of which nothing was heard in this run."""
    return frozenset(
        name
        for plane in stored.planes
        if (name := plane.identity.name) not in heard
        and (plane.condition is None or plane.condition.state is not PlaneState.LOST)
    )


def _same_keys(held: StoreSnapshot, stored: StoreSnapshot) -> bool:
    """Say whether nothing moved that keys are told by."""
    return (
        held.api_keys is stored.api_keys
        and held.deployments is stored.deployments
        and held.removals is stored.removals
        and held.projects is stored.projects
    )


def _keys_told(stored: StoreSnapshot) -> tuple[ApiKey, ...] | None:
    """Return the keys in force; of a fleet with one project alone as they were made."""
    if not stored.api_keys:
        return None
    keys = tuple(one.key for one in stored.api_keys if one.revoked_at is None)
    owners = {one.deployment.name: one.deployment.project for one in stored.deployments}
    gone = {one.deployment.name: one.deployment.project for one in stored.removals}
    if not stored.projects and not is_shared(keys, {**gone, **owners}):
        return keys
    return scoped(keys, owners, gone)


def _demands(stored: StoreSnapshot) -> tuple[Demand, ...]:
    """Return what is wanted; where a rollout went back, at the revision that serves."""
    back = {one.deployment: one for one in stored.rollouts if one.stage is Stage.ROLLED_BACK}
    demands = []
    for one in stored.deployments:
        name, asked = one.deployment.name, one.deployment.revision.number
        rollout = back.get(name)
        deployment = one.deployment
        if rollout is not None and rollout.revision == asked:
            serving = stored.rolled.revisions.get(name, {}).get(rollout.stable)
            deployment = replace(deployment, revision=serving) if serving else deployment
        demands.append(Demand(deployment=deployment, deleting=one.deleting, asked_revision=asked))
    return tuple(demands)
