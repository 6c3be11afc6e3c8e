"""Sight: one read of the store and the link as a Snapshot; does I/O, decides nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from control_plane.reconcile.missing import Missing, look_for
from control_plane.reconcile.policy import ReconcilePolicy, policy_for, with_regions
from control_plane.reconcile.snapshot import Demand, LinkView, PlaneView, Removed, Snapshot
from control_plane.store.engine import Database
from control_plane.store.leases import list_leases
from control_plane.store.snapshot import StoreSnapshot, renew
from control_plane.store.values import StoredDesired, StoredEntry, StoredRemoval
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

    def view(self, plane: str) -> LinkView:
        """Return what is known of one plane's link."""

    def reports(self) -> tuple[PlaneReport, ...]:
        """Return the newest report of every plane heard."""


class Outages(Protocol):
    """When the database was away; control_plane.leading.outage.DatabaseSight is the real one."""

    def seconds_since_back(self, now: float) -> float | None:
        """Return how long it has been back; 0 while it is away, None when it never was."""


class Sight:
    """Looks at the fleet."""

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
        self._links = links
        self._clock = clock
        self._policy = policy
        self._decode = decode
        self._outages = outages
        self._missing = Missing()
        self._stored: StoreSnapshot | None = None
        self._told: dict[str, tuple[StoredDesired, DesiredState]] = {}
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

    async def look(self) -> Snapshot:
        """Return the fleet as stored and as heard, at one `now`."""
        stored = self._stored = await self._database.run_read(renew, self._stored)
        await self._recall(stored)
        now = self._clock.now()
        return Snapshot(
            now=now,
            since_start_seconds=self._links.since_start_seconds,
            since_database_back_seconds=(
                self._outages.seconds_since_back(self._clock.monotonic()) if self._outages else None
            ),
            policy=policy_for(self._policy_for(stored.regions), len(stored.planes)),
            demands=_demands(stored),
            planes=self._planes(stored),
            pools=tuple(p.pool for p in stored.pools_at(now)),
            placements=stored.placements,
            cordons=stored.cordons,
            desired=self._desired(stored),
            profiles=self._profiles_of(stored.profiles),
            digests=self._digests_of(stored.base_models),
            rollouts=stored.rollouts,
            revisions=stored.rolled.revisions,
            removed=self._removed_of(stored.removals),
            scalings=stored.scalings,
        )

    async def _recall(self, stored: StoreSnapshot) -> None:
        """Read when planes that were not heard in this run were heard last.

        Once for all of them: nobody but us writes it while we lead.
        """
        age, unheard = self._links.since_start_seconds, _unheard(stored, self._links)
        if age < self._age_seconds:  # another term of ours: somebody else led meanwhile
            self._recalled = frozenset()
        self._age_seconds = age
        if unheard <= self._recalled:
            return
        leases = await self._database.run_read(list_leases)
        self._heard_at = {name: lease.heard_at for name, lease in leases.items()}
        self._recalled = unheard

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

    def _desired(self, stored: StoreSnapshot) -> tuple[DesiredState, ...]:
        """Return what every plane was told; only what it was told anew is decoded again."""
        # Those of a thousand planes with ten deployments take a second to decode.
        told: dict[str, tuple[StoredDesired, DesiredState]] = {}
        for plane, state in sorted(stored.desired.items()):
            held = self._told.get(plane)
            if held is None or held[0] is not state:
                held = state, self._decoded(plane, state)
            told[plane] = held
        self._told = told
        return tuple(decoded for _, decoded in told.values())

    def _decoded(self, plane: str, state: StoredDesired) -> DesiredState:
        if not state.payload:  # only its generation is known: nothing was ever told under it
            return DesiredState(plane=plane, version=state.version)
        return self._decode(state.payload, state.version)

    def _planes(self, stored: StoreSnapshot) -> tuple[PlaneView, ...]:
        known = {plane.identity.name: plane for plane in stored.planes}
        self._missing = look_for(
            self._missing,
            {name: tuple(shape.name for shape in plane.pools) for name, plane in known.items()},
            {report.identity.name: report for report in self._links.reports()},
            self._clock.monotonic(),
        )
        views = [
            PlaneView(
                identity=plane.identity,
                gateway=plane.gateway,
                shapes=plane.pools,
                condition=plane.condition,
                link=self._links.view(name),
                nodes_digest=plane.nodes_digest,
                missing=self._missing.of(name),
                heard_at=self._heard_at.get(name),
            )
            for name, plane in known.items()
        ]
        views += [
            # Heard for the first time: the plan records it.
            PlaneView(
                identity=report.identity,
                gateway=report.gateway,
                shapes=(),
                condition=None,
                link=self._links.view(report.identity.name),
            )
            for report in self._links.reports()
            if report.identity.name not in known
        ]
        return tuple(sorted(views, key=lambda view: view.name))


def _unheard(stored: StoreSnapshot, links: LiveLinks) -> frozenset[str]:
    """Return the planes that are not lost and of which nothing was heard in this run."""
    heard = {report.identity.name for report in links.reports()}
    return frozenset(
        plane.identity.name
        for plane in stored.planes
        if plane.identity.name not in heard
        and (plane.condition is None or plane.condition.state is not PlaneState.LOST)
    )


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
