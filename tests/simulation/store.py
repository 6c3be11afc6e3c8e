"""The capacity database of the simulated world: what control planes share, and its rules.

Each method is named as the function of `control_plane.store` that it stands for and keeps the same
rules: the fence (the product's own `check_epoch`), compare-and-set, the log. Requests are
remembered by the product's own code in a real SQLite. tests/contract/test_sim_store.py holds it to
what the real one does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select

from control_plane.leading.term import TERM_SECONDS
from control_plane.reconcile.actions import (
    Action,
    PushDesired,
    RaiseGeneration,
    RecordReport,
    RemoveDeployment,
    SetCondition,
)
from control_plane.reconcile.storing import Encode
from control_plane.store import requests, tables
from control_plane.store.fencing import WriteContext
from control_plane.store.plans import Basis, Proposal
from control_plane.store.recovery import epoch_before_next
from control_plane.store.requests import Asked
from control_plane.store.scalings import ScalingStep
from control_plane.store.snapshot import Rolled, StoreSnapshot, Unlogged
from control_plane.store.values import (
    AdoptedPlane,
    Adoption,
    Decision,
    PlanState,
    StoredDeployment,
    StoredDesired,
    StoredEntry,
    StoredLease,
    StoredPlan,
    StoredPlane,
    StoredPool,
    StoredRemoval,
    Told,
)
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.cordon import Cordon
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.generation import Version
from skerry.fleet.names import pool_name
from skerry.fleet.node import digest_of_nodes
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.placement import Placement, counts_of
from skerry.fleet.pool import Pool, PoolTerms
from skerry.fleet.profile import Profile
from skerry.fleet.rollout import Rollout, Stage, resumed
from skerry.plumbing.errors import Infeasible, NotFound, StaleGeneration
from tests.builders import T0
from tests.simulation.fence import check, requests_session
from tests.simulation.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed change: under which epoch it was written, and which led at that moment."""

    at: float
    epoch: int
    leading: int
    kind: str
    subject: str
    request_id: str = ""


@dataclass(slots=True)
class Rows:
    """All tables; values in them are frozen, so a copy of the containers is a backup."""

    epoch: int = 0
    holder: str = ""
    held_until: float = 0.0
    deployments: dict[str, StoredDeployment] = field(default_factory=dict)
    planes: dict[str, StoredPlane] = field(default_factory=dict)
    terms: dict[str, PoolTerms] = field(default_factory=dict)
    placements: tuple[Placement, ...] = ()
    decision: Decision | None = None
    desired: dict[str, StoredDesired] = field(default_factory=dict)
    cordons: dict[str, Cordon] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    revisions: dict[str, dict[int, Revision]] = field(default_factory=dict)
    plans: tuple[StoredPlan, ...] = ()  # put in force, the newest last
    leases: dict[str, StoredLease] = field(default_factory=dict)
    removals: dict[str, StoredRemoval] = field(default_factory=dict)
    scalings: dict[str, Scaled] = field(default_factory=dict)
    profiles: tuple[StoredEntry[Profile], ...] = ()
    restored: str = ""  # why the database must recover before anything is decided

    def copied(self) -> "Rows":
        """Return a backup."""
        return replace(
            self,
            deployments=dict(self.deployments),
            planes=dict(self.planes),
            terms=dict(self.terms),
            desired=dict(self.desired),
            cordons=dict(self.cordons),
            leases=dict(self.leases),
            removals=dict(self.removals),
            rollouts=dict(self.rollouts),
            scalings=dict(self.scalings),
            revisions={name: dict(known) for name, known in self.revisions.items()},
        )


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of the database as it was at a moment, with the requests that it remembers."""

    at: float
    rows: Rows
    requests: tuple[dict[str, Any], ...] = ()


class SimStore:
    """The one database; `journal` is its change log."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.rows = Rows()
        self.journal: list[Entry] = []
        self.down = False
        self.watchers: list[Callable[[Entry, object], None]] = []
        self._loaded: StoreSnapshot | None = None
        self._requests = requests_session()
        self._requests.execute(delete(tables.requests))

    def fence(self, write: WriteContext) -> None:
        """Refuse a deposed leader's write; raises StaleGeneration."""
        self.touch()
        self._check(write)

    def _check(self, write: WriteContext) -> None:
        check(write, self.rows.epoch)

    def touch(self) -> None:
        """Have the next look read everything anew."""
        self._loaded = None

    def note(
        self, write: WriteContext, kind: str, subject: str, told: object = None, by: str = ""
    ) -> None:
        """Append a change to the log."""
        entry = Entry(self.timeline.now, write.epoch, self.rows.epoch, kind, subject, by)
        self.journal.append(entry)
        for watch in self.watchers:
            watch(entry, told)

    def backup(self) -> Backup:
        """Return a copy of it all."""
        rows = self._requests.execute(select(tables.requests)).mappings()
        return Backup(
            at=self.timeline.now,
            rows=self.rows.copied(),
            requests=tuple(dict(row) for row in rows),
        )

    def restore(self, backup: Backup, because: str) -> None:
        """Put a backup, or nothing at all, in the place of what is there."""
        self.touch()
        self.rows = backup.rows.copied()
        rows = self.rows
        rows.holder, rows.held_until, rows.restored = "", 0.0, because
        self._requests.execute(delete(tables.requests))
        if backup.requests:
            self._requests.execute(insert(tables.requests), list(backup.requests))
        write = WriteContext(epoch=rows.epoch, actor="people", now=T0)
        self.note(write, "database.restored", "-", backup)

    # Leadership

    def hold_leadership(self, holder: str, epoch: int) -> int | None:
        """Renew the leadership of `epoch`; with 0, take what is free. None while another leads."""
        rows, now = self.rows, self.timeline.now
        if rows.holder == holder and rows.epoch == epoch and epoch:
            rows.held_until = now + TERM_SECONDS
            return epoch
        if epoch or now < rows.held_until:
            return None  # who renews takes nothing
        rows.epoch, rows.holder, rows.held_until = rows.epoch + 1, holder, now + TERM_SECONDS
        write = WriteContext(epoch=rows.epoch, actor=holder, now=T0)
        self.note(write, "leadership.taken", holder)
        return rows.epoch

    def leading_epoch(self) -> int:
        """Return which epoch leads."""
        return self.rows.epoch

    # When planes were heard

    def flush_leases(self, write: WriteContext, leases: Sequence[StoredLease]) -> None:
        """Keep when planes were heard; no change of the log, and nothing that a look reads."""
        self._check(write)
        ahead = self._ahead(write.now)
        told = (replace(lease, heard_at=lease.heard_at + ahead) for lease in leases)
        self.rows.leases.update({lease.plane: lease for lease in told})

    def list_leases(self, now: datetime) -> dict[str, StoredLease]:
        """Return when planes were heard last, by plane, as told by a clock that shows `now`."""
        ahead = self._ahead(now)
        return {
            n: replace(one, heard_at=one.heard_at - ahead) for n, one in self.rows.leases.items()
        }

    def _ahead(self, now: datetime) -> timedelta:
        """Return how far the database's clock, which nobody sets, is ahead of one that shows so."""
        return T0 + timedelta(seconds=self.timeline.now) - now

    # What reconciliation writes

    def record_report(self, write: WriteContext, report: PlaneReport) -> bool:
        """Keep what a plane says of itself and say whether it is new; a pool left out stays."""
        self._check(write)
        name, held = report.identity.name, self.rows.planes.get(report.identity.name)
        known = {shape.name: shape for shape in held.pools} if held else {}
        known |= {shape.name: shape for shape in report.pools}
        digest = held.nodes_digest if held else None
        told = StoredPlane(
            identity=report.identity,
            gateway=report.gateway,
            pools=tuple(known[shape] for shape in sorted(known)),
            condition=held.condition if held else None,
            nodes_digest=digest_of_nodes(report.nodes) if report.nodes else digest,
        )
        if told == held:
            return False
        self.touch()
        self.rows.planes[name] = told
        self.note(write, "plane.reported", name)
        return True

    def set_condition(
        self,
        write: WriteContext,
        plane: str,
        condition: PlaneCondition,
        before: PlaneState | None,
        *_: object,
    ) -> bool:
        """Keep how a plane is judged, if it was judged from what is stored."""
        self.fence(write)
        held = self._plane(plane)
        if held.condition == condition:
            return False
        if (held.condition.state if held.condition else None) is not before:
            raise StaleGeneration(f"plane {plane!r} was judged otherwise meanwhile")
        self.rows.planes[plane] = replace(held, condition=condition)
        if condition.state is not before:  # only a new state is a change in the log
            self.note(write, f"plane.{condition.state.value}", plane, condition)
        return True

    def put_decided(
        self,
        write: WriteContext,
        told: Proposal,
        basis: Basis,
        inputs: str,
        held: Proposal | None,
    ) -> tuple[bool, int | None]:
        """Put a plan in force unless cordons were changed meanwhile, or placements."""
        if set(self.rows.cordons.values()) != set(basis.cordons):
            raise StaleGeneration("a cordon was changed while the plan was made")
        return self.put_in_force(write, told, basis.placements, inputs, held)

    def put_in_force(
        self,
        write: WriteContext,
        told: Proposal,
        seen: Sequence[Placement],
        inputs: str,
        held: Proposal | None,
    ) -> tuple[bool, int | None]:
        """Put a plan in force unless the placements were changed meanwhile."""
        self.fence(write)
        del held
        if counts_of(self.rows.placements) != counts_of(seen):
            raise StaleGeneration("the placements were changed while the plan was made")
        before, self.rows.placements = counts_of(self.rows.placements), told.placements
        self.rows.decision = told.decision
        changed = before != counts_of(told.placements)
        if changed:
            number = len(self.rows.plans) + 1
            plan = StoredPlan(
                number=number,
                epoch=write.epoch,
                decided_at=write.now,
                state=PlanState.APPLIED,
                inputs=inputs,
                summary=told.summary,
                decision=told.decision,
            )
            self.rows.plans = (*self.rows.plans, plan)
            self.note(write, "placements.decided", "-", (before, counts_of(told.placements)))
        return changed, None

    def list_applied(self, after: datetime) -> tuple[StoredPlan, ...]:
        """Return the plans put in force after a moment."""
        return tuple(plan for plan in self.rows.plans if plan.decided_at > after)

    def record_freeze(self, write: WriteContext, frozen: bool, told: str) -> None:
        """Note that moves are frozen, or are so no more."""
        self.fence(write)
        self.note(write, "fleet.frozen" if frozen else "fleet.thawed", "-", told)

    def put_rollouts(
        self, write: WriteContext, moved: Sequence[tuple[Rollout, Rollout | None]]
    ) -> None:
        """Store rollouts with what each was before, all or none."""
        self.fence(write)
        for rollout, before in moved:
            if self.rows.rollouts.get(rollout.deployment) != before:
                raise StaleGeneration(f"the rollout of {rollout.deployment!r} was changed")
        for rollout, _ in moved:
            self.rows.rollouts[rollout.deployment] = rollout
            self.note(write, _kind_of(rollout), rollout.deployment, rollout)

    def put_scalings(self, write: WriteContext, steps: Sequence[ScalingStep]) -> None:
        """Store what a round of autoscaling decided, all or none; of what was removed, nothing."""
        self._check(write)
        rows = self.rows
        steps = [step for step in steps if step.scaled.deployment in rows.deployments]
        if any(rows.scalings.get(step.scaled.deployment) != step.before for step in steps):
            raise StaleGeneration("a scaling was decided meanwhile")
        for step in steps:
            if step.scaled != step.before:
                self.touch()
                rows.scalings[step.scaled.deployment] = step.scaled
                self.note(write, "scaling.moved", step.scaled.deployment, step)

    def list_cold_starts(self) -> ColdStarts:
        """Return how long starts took: nothing measures them here, the profile says it."""
        return {}

    def store_action(
        self, write: WriteContext, action: Action, encode: Encode
    ) -> tuple[str, Version, bytes] | None:
        """Store one action; return what is to be pushed then."""
        match action:
            case RecordReport(report=report):
                self.record_report(write, report)
            case SetCondition(plane=plane, condition=condition, before=before):
                self.set_condition(write, plane, condition, before)
            case PushDesired(desired=state, expected_generation=expected):
                payload, digest = encode(state)
                told = Told(payload=payload, digest=digest, envelopes=state.envelopes)
                version = self.put_desired(write, state.plane, told, expected)
                return state.plane, version, payload
            case RaiseGeneration(plane=plane, at_least=at_least):
                self.raise_generation(write, plane, at_least)
            case RemoveDeployment(deployment=name):
                self.remove_deployment(write, name)
        return None

    # Recovery

    def restored_because(self) -> str:
        """Return why the database must recover first."""
        return self.rows.restored

    def end_recovery(
        self, write: WriteContext, adoption: Adoption | None, asked: Asked | None = None
    ) -> bool:
        """Take in what planes hold, and let the next epoch be above all that was seen."""
        self.fence(write)
        if asked is not None:
            if requests.answered(self._requests, write, asked) is not None:
                return False
            requests.keep_told(self._requests, write, asked)
        if adoption is None:
            self.note(write, "recovery.approved", "-")
            return True
        rows = self.rows
        for one in adoption.deployments:
            self.put_deployment(one.deployment, deleting=one.deleting)
            for revision in one.revisions:
                rows.revisions.setdefault(one.deployment.name, {})[revision.number] = revision
        for name in adoption.superseded:
            held = rows.deployments[name]
            rows.deployments[name] = replace(held, deleting=True)
        rows.terms = dict(adoption.terms) | rows.terms
        rows.rollouts |= {rollout.deployment: rollout for rollout in adoption.rollouts}
        for plane in adoption.planes:
            self._adopt(write, plane)
        for name in adoption.quarantined:
            rows.removals.pop(name, None)
        rows.placements, rows.restored = adoption.placements, ""
        self.note(write, "recovery.ended", "-", adoption)
        if adoption.epoch_floor:
            rows.epoch = epoch_before_next(write.epoch, adoption.epoch_floor)
            rows.held_until = 0.0
        return True

    def _adopt(self, write: WriteContext, one: AdoptedPlane) -> None:
        if not one.payload:
            held = self.rows.desired.get(one.plane)
            if held is None or held.version.generation <= one.version.generation:
                self.raise_generation(write, one.plane, one.version.generation + 1)
            return
        stored = StoredDesired(
            version=one.version, payload=one.payload, digest=one.digest, envelopes=one.envelopes
        )
        self.rows.desired[one.plane] = stored
        self.note(write, "desired.adopted", one.plane, stored)

    def put_desired(
        self, write: WriteContext, plane: str, told: Told, expected_generation: int
    ) -> Version:
        """Store what a plane is told as the generation after the expected one."""
        self.fence(write)
        held = self.rows.desired.get(plane)
        found = held.version.generation if held else 0
        if found != expected_generation:
            raise StaleGeneration(f"plane {plane!r} is at {found}, not {expected_generation}")
        version = Version(epoch=write.epoch, generation=expected_generation + 1)
        stored = StoredDesired(
            version=version, payload=told.payload, digest=told.digest, envelopes=told.envelopes
        )
        self.rows.desired[plane] = stored
        self.note(write, "desired.stored", plane, (held, stored))
        return version

    def raise_generation(self, write: WriteContext, plane: str, at_least: int) -> Version:
        """Lift a plane's generation to what the plane holds."""
        self.fence(write)
        held = self.rows.desired.get(plane)
        if held is not None and held.version.generation >= at_least:
            return held.version
        version = Version(epoch=write.epoch, generation=at_least)
        kept = held or StoredDesired(version=version, payload=b"", digest=b"")
        self.rows.desired[plane] = replace(kept, version=version)
        self.note(write, "desired.generation-raised", plane)
        return version

    def remove_deployment(self, write: WriteContext, name: str) -> bool:
        """Forget a deployment that was marked and is gone everywhere."""
        self.fence(write)
        held = self.rows.deployments.get(name)
        if held is None:
            return False
        if not held.deleting:
            raise Infeasible(f"deployment {name!r} is wanted")
        numbers = (*self.rows.revisions.get(name, ()), held.deployment.revision.number)
        self.rows.removals[name] = StoredRemoval(
            deployment=held.deployment, last_revision=max(numbers), removed_at=write.now
        )
        del self.rows.deployments[name]
        self.rows.rollouts.pop(name, None)
        self.rows.scalings.pop(name, None)
        kept = tuple(p for p in self.rows.placements if p.deployment != name)
        self.rows.placements = kept
        self.note(write, "deployment.removed", name)
        return True

    # What operators write

    def operate(self, write: WriteContext, asked: Asked, effect: Callable[[], str]) -> bool:
        """Do what an operator asks once for each request id; False for a repeat."""
        self.fence(write)
        if requests.answered(self._requests, write, asked) is not None:
            return False
        subject = effect()
        self.note(write, asked.kind, subject, asked.body, asked.request_id)
        requests.keep_told(self._requests, write, asked)
        return True

    def numbered(self, name: str) -> int:
        """Return the number of the next revision of that name, also of one that was removed."""
        return max(self.rows.revisions.get(name, ()), default=0) + 1

    def put_deployment(self, deployment: Deployment, *, deleting: bool = False) -> str:
        """Apply a deployment, or mark it for its end."""
        self.touch()
        name, revision = deployment.name, deployment.revision
        self.rows.revisions.setdefault(name, {})[revision.number] = revision
        self.rows.deployments[name] = StoredDeployment(
            deployment=deployment, etag="", created_at=T0, updated_at=T0, deleting=deleting
        )
        return deployment.name

    def declare_lost(self, write: WriteContext, plane: str) -> str:
        """Judge a plane lost by an operator's word; Infeasible for one that is heard."""
        held = self._plane(plane)
        if held.condition is None or held.condition.state in HEARD:
            raise Infeasible(f"plane {plane!r} is heard")
        if held.condition.state is not PlaneState.LOST:
            condition = PlaneCondition(
                state=PlaneState.LOST, since=write.now, reason="declared", declared=True
            )
            self.rows.planes[plane] = replace(held, condition=condition)
            self.note(write, "plane.lost", plane, condition)
        return plane

    def resume_rollout(self, write: WriteContext, name: str) -> str:
        """Go on with a rollout that was halted."""
        self.fence(write)
        rollout = self.rows.rollouts[name] = resumed(self.rows.rollouts[name], write.now)
        self.note(write, _kind_of(rollout), name)
        return name

    def renew(self, *_: object) -> StoreSnapshot:
        """Return all of it; the same value while nothing moved."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> StoreSnapshot:
        rows = self.rows
        pools = tuple(
            StoredPool(
                pool=Pool(
                    plane=plane.identity,
                    shape=shape,
                    terms=rows.terms.get(pool_name(name, shape.name), PoolTerms()),
                ),
                etag="",
            )
            for name, plane in sorted(rows.planes.items())
            for shape in plane.pools
        )
        return StoreSnapshot(
            deployments=tuple(rows.deployments[name] for name in sorted(rows.deployments)),
            pools=pools,
            planes=tuple(rows.planes[name] for name in sorted(rows.planes)),
            placements=rows.placements,
            desired=dict(sorted(rows.desired.items())),
            sequence=len(self.journal),
            decision=rows.decision,
            prices={},
            reservations=(),
            cordons=tuple(rows.cordons[name] for name in sorted(rows.cordons)),
            regions=(),
            profiles=rows.profiles,
            base_models=(),
            rollouts=tuple(rows.rollouts[name] for name in sorted(rows.rollouts)),
            rolled=self._rolled(),
            scalings=tuple(rows.scalings[name] for name in sorted(rows.scalings)),
            removals=tuple(rows.removals[name] for name in sorted(rows.removals)),
            unlogged=Unlogged(decisions=(), planes=frozenset()),
        )

    def _rolled(self) -> Rolled:
        """Return the revisions beside the present ones that rollouts speak of."""
        rows, wanted = self.rows, set[tuple[str, int]]()
        for name, stored in rows.deployments.items():
            rollout, present = rows.rollouts.get(name), stored.deployment.revision.number
            if rollout is None:
                wanted |= {(name, n) for n in rows.revisions[name]} if present > 1 else set()
            elif rollout.stage is not Stage.COMPLETE or rollout.revision != present:
                wanted |= {(name, n) for n in rollout.revisions if n in rows.revisions[name]}
        found: dict[str, dict[int, Revision]] = {}
        for name, number in sorted(wanted):
            found.setdefault(name, {})[number] = rows.revisions[name][number]
        return Rolled(wanted=frozenset(wanted), revisions=found)

    def _plane(self, name: str) -> StoredPlane:
        held = self.rows.planes.get(name)
        if held is None:
            raise NotFound(f"plane {name!r} has not reported yet")
        return held


def _kind_of(rollout: Rollout) -> str:
    return f"rollout.{rollout.state.replace('_', '-')}"
