"""Planted bugs: each takes one rule out of the product's own code, as a mistake would.

Every one must be found within SEEDS_MAX seeds; one that is not found fails the run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from control_plane.autoscale import rounds
from control_plane.link.push import Outbox
from control_plane.link.registry import Registry
from control_plane.reconcile import (
    applying,
    classify,
    envelopes,
    failover,
    loop,
    rollout,
    shares,
    testimony,
)
from control_plane.reconcile.actions import PushDesired
from control_plane.reconcile.snapshot import Snapshot
from control_plane.recovery import assess
from control_plane.store import fencing, requests
from scheduler import arrays, check, conflicts, feasibility
from skerry.fleet.autoscaling import fleetwide, local
from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import UNKNOWN, PlaneReport, PlaneState, ReplicaState
from skerry.fleet.rollout import Share, Stage
from skerry.plumbing.errors import Corrupt
from tests.simulation import control
from tests.simulation.store import SimStore
from workload_plane.autoscale import scaler, sharing
from workload_plane.converge import condition, demand, grants, nodes
from workload_plane.converge import plan as converge
from workload_plane.converge.actions import DrainReplica
from workload_plane.desired_state import accept
from workload_plane.desired_state import file as desired_file
from workload_plane.desired_state import format as desired_format
from workload_plane.desired_state.format import StoredDesired
from workload_plane.link import session

SEEDS_MAX = 200
Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug: what it is called, how it is planted, and which invariant finds it, watched alone.

    `kinds` of faults come on top of those that each seed chooses: they are where it would bite.
    `seed` is the one that found it last, and is tried first.
    """

    name: str
    put: Callable[[Patch], None]
    found_by: str
    kinds: tuple[str, ...] = ()
    seed: int = 1

    def seeds(self) -> list[int]:
        """Return the seeds within which it must be found, in the order in which they are tried."""
        return sorted(range(1, SEEDS_MAX + 1), key=lambda seed: seed != self.seed)


def no_fence(patch: Patch) -> None:
    """The store takes a deposed leader's writes."""
    patch.setattr(fencing, "check_epoch", lambda session, epoch: None)


def generation_check_dropped(patch: Patch) -> None:
    """A plane takes a state that is older than what it holds."""
    patch.setattr(accept, "may_replace", lambda offered, held: offered.epoch >= held.epoch)
    patch.setattr(accept, "_rewritten", lambda offered, held: None)


def dropped_before_ready(patch: Patch) -> None:
    """The old replica goes when the new one is only wanted."""
    patch.setattr(envelopes, "_is_replaced", lambda *_: True)


def starting_counts_as_ready(patch: Patch) -> None:
    """A replica that starts counts as one that serves."""
    patch.setattr(
        envelopes,
        "ready",
        lambda replicas, revision: sum(r.state is not ReplicaState.FAILED for r in replicas),
    )


def empty_list_obeyed(patch: Patch) -> None:
    """A read of the database comes back empty now and then, and planes do as they are told."""
    patch.setattr(accept, "_forgets_running", lambda offered, held: None)
    patch.setattr(accept, "_shrinks", lambda offered, held: None)
    whole = SimStore.renew

    def renew(store: SimStore, *args: object) -> Any:
        found = whole(store, *args)
        if store.timeline.now > 15.0 and store.timeline.noise("empty reads").random() < 0.05:
            return replace(found, deployments=(), placements=())
        return found

    patch.setattr(SimStore, "renew", renew)


def no_leadership_grace(patch: Patch) -> None:
    """A new leader counts silence from before its time."""
    patch.setattr(Snapshot, "grace_left_seconds", property(lambda snapshot: 0.0))
    rules = tuple(rule for rule in classify.PLANE_RULES if rule.name != "grace")
    patch.setattr(classify, "PLANE_RULES", rules)
    _blame_unheard(patch)


def _blame_unheard(patch: Patch) -> None:
    """Have witnesses that say nothing count as against."""
    patch.setattr(classify.Evidence, "against", property(lambda e: len(e.witnesses)))


def witness_ignored(patch: Patch) -> None:
    """The lease alone decides."""
    patch.setattr(classify.Evidence, "seen_serving", property(lambda e: False))
    patch.setattr(classify.Evidence, "against", property(lambda e: 99))


def stale_views_count(patch: Patch) -> None:
    """A witness that was cut off at any time counts against a plane that falls silent."""
    patch.setattr(testimony, "together_seconds", lambda policy: 1e9)


def freeze_ignored(patch: Patch) -> None:
    """However many are silent, each is judged by itself."""
    patch.setattr(
        failover, "freeze_of", lambda snapshot: failover.Freeze(silent=(), counted=99, frozen=False)
    )
    patch.setattr(loop, "freeze_of", failover.freeze_of)


def ceiling_overrun(patch: Patch) -> None:
    """A plane runs more than it was granted."""
    whole = grants._targets
    patch.setattr(
        grants,
        "_targets",
        lambda assignment, observed: {
            pool: target + 2 if target else 0
            for pool, target in whole(assignment, observed).items()
        },
    )


def residency_skipped_in_emergency(patch: Patch) -> None:
    """When there is no room at home, residency gives way: in the solver, and in its check."""
    for module in (arrays, conflicts, feasibility, check):
        if hasattr(module, "resides"):
            patch.setattr(module, "resides", lambda zones, allowed: True)
    rules = tuple(rule for rule in check._RULES if rule is not check._eligibility)
    patch.setattr(check, "_RULES", rules)


def effect_doubled_by_repeat(patch: Patch) -> None:
    """A call's request id is not remembered."""
    patch.setattr(requests, "answered", lambda session, write, asked: None)
    patch.setattr(requests, "keep_told", lambda session, write, asked: None)


def drain_ignores_min_available(patch: Patch) -> None:
    """A drain ends what finds no other place."""
    patch.setattr(loop, "with_kept", lambda plan, snapshot, drained: (plan, ()))


def torn_file_is_empty(patch: Patch) -> None:
    """A file that cannot be read is taken for one that says nothing."""
    whole = desired_format.decode

    def decode(data: bytes) -> StoredDesired:
        try:
            return whole(data)
        except Corrupt:
            nothing = DesiredState(plane="aws", version=Version(epoch=0, generation=1))
            return StoredDesired(state=nothing, payload=b"")

    patch.setattr(desired_file, "decode", decode)


def away_is_given_away(patch: Patch) -> None:
    """What a plane that is away was granted is granted to others."""
    heard = envelopes._is_heard
    patch.setattr(
        envelopes,
        "_is_lost",
        lambda condition: condition.state is PlaneState.LOST or not heard(condition),
    )


def move_budget_ignored(patch: Patch) -> None:
    """Every plan moves as much as pays off."""
    patch.setattr(loop, "bounded", lambda policy, budget: policy)


def silence_unnoticed(patch: Patch) -> None:
    """An agent never finds out that its control plane is gone."""
    patch.setattr(session, "judge", lambda pulse, terms, now: session.Judgement.ALIVE)
    patch.setattr(session, "quiet_until", lambda pulse, terms, now: now + 5.0)


def unknown_is_nothing(patch: Patch) -> None:
    """With nothing known of what is desired, what runs is ended."""
    whole = converge.decide

    def decide(desired: Any, observed: Any, now: float) -> Any:
        if desired is UNKNOWN:
            live = [r for r in observed.replicas if r.state is ReplicaState.READY]
            drains = tuple(DrainReplica(name=r.name, reason="unwanted") for r in live)
            return converge.Decision(actions=drains)
        return whole(desired, observed, now)

    patch.setattr(converge, "decide", decide)


def place_taken_twice(patch: Patch) -> None:
    """What a start takes of a node is not counted for the next one."""
    patch.setattr(nodes.PoolRoom, "_spend", lambda room, node, accelerators, memory: None)


def grants_beyond_the_pool(patch: Patch) -> None:
    """Ceilings are as the plan wants them, whatever else is granted there still."""
    patch.setattr(envelopes, "_within_capacity", lambda granted, *_: granted)


def pushed_and_not_stored(patch: Patch) -> None:
    """A plane is told in the same breath what the database is only going to be told."""
    whole = applying.Applying._apply_one

    async def apply_one(self: applying.Applying, action: Any) -> None:
        if isinstance(action, PushDesired):
            epoch = self._write().epoch
            version = Version(epoch=epoch, generation=action.expected_generation + 1)
            self._offer(action.desired.plane, version, self._doors.encode(action.desired)[0])
        await whole(self, action)

    patch.setattr(applying.Applying, "_apply_one", apply_one)
    patch.setattr(applying, "batches", lambda actions: [(action,) for action in actions])


def scaled_to_zero(patch: Patch) -> None:
    """A plane takes its only replica of a deployment for idle as soon as it serves."""
    whole = grants._targets

    def targets(assignment: Any, observed: Any) -> dict[str, int]:
        name = assignment.deployment.name
        serves = any(r.deployment == name and r.is_serving for r in observed.replicas)
        found = whole(assignment, observed)
        return {pool: 0 if serves and told == 1 else told for pool, told in found.items()}

    patch.setattr(grants, "_targets", targets)


def drained_at_once(patch: Patch) -> None:
    """Whatever is out of rotation is taken to have nothing left to answer."""
    patch.setattr(condition, "_is_drained", lambda replica, now: True)


def late_requests_forgotten(patch: Patch) -> None:
    """A drain is over when nothing is in flight, though gateways may not have heard of it yet."""
    patch.setattr(condition, "DRAIN_SECONDS_MIN", 0.0)


def recovery_not_asked(patch: Patch) -> None:
    """A database that forgot is decided by as if it knew all."""

    async def recovers(self: loop.ReconcileLoop, snapshot: Snapshot) -> bool:
        return False

    patch.setattr(loop.ReconcileLoop, "_recovers", recovers)


def second_look_asks_nobody(patch: Patch) -> None:
    """Planes that came while the solver worked are told what the database knows."""
    whole_turn, whole = loop.ReconcileLoop.turn, loop.ReconcileLoop._recovers
    asked: set[int] = set()

    async def turn(self: loop.ReconcileLoop) -> None:
        asked.discard(id(self))
        await whole_turn(self)

    async def recovers(self: loop.ReconcileLoop, snapshot: Snapshot) -> bool:
        if id(self) in asked:
            return False
        asked.add(id(self))
        return await whole(self, snapshot)

    patch.setattr(loop.ReconcileLoop, "turn", turn)
    patch.setattr(loop.ReconcileLoop, "_recovers", recovers)


def forgets_what_was_torn(patch: Patch) -> None:
    """What a plane had seen and lost to damage is not heard."""
    patch.setattr(PlaneReport, "generation_seen", property(lambda r: r.held.generation))
    patch.setattr(assess, "epoch_seen", lambda r: max(r.held.epoch, r.newest_epoch))


def highest_not_kept_alone(patch: Patch) -> None:
    """A plane's highest version goes with its newest copy."""

    def decode(data: bytes) -> Version:
        raise Corrupt("not kept")

    patch.setattr(desired_file, "decode_seen", decode)


def everywhere_at_once(patch: Patch) -> None:
    """Every plane is told the new revision as soon as there is one."""
    patch.setattr(shares, "share_of", lambda rollout, plane: Share(revision=rollout.revision))


def first_not_waited_for(patch: Patch) -> None:
    """A rollout goes on to whole planes though its first replica never was READY."""
    steps = dict(rollout._STEPS) | {
        Stage.CANARY: lambda before, facts: replace(before, stage=Stage.ROLLING, since=facts.now)
    }
    patch.setattr(rollout, "_STEPS", steps)


def late_hellos_taken(patch: Patch) -> None:
    """A stream is taken in whatever others its agent has opened since."""
    whole = Registry.open

    def opened(self: Registry, *told: Any, stream_number: int) -> Outbox:
        return whole(self, *told, stream_number=0)

    patch.setattr(Registry, "open", opened)


def stale_signal_is_zero(patch: Patch) -> None:
    """Where nobody tells the load, there is none."""
    whole = local.LocalScaler._wish

    def wish(self: Any, now: float, view: Any, *told: Any) -> Any:
        found = whole(self, now, view, *told)
        return replace(found, target=0) if view is None else found

    patch.setattr(local.LocalScaler, "_wish", wish)


def loop_overruns_its_ceiling(patch: Patch) -> None:
    """A plane's own loop takes a replica more than its envelopes allow."""
    whole = sharing.share

    def share(*told: Any) -> dict[str, int]:
        return {pool: count + 1 for pool, count in whole(*told).items()}

    patch.setattr(scaler, "share", share)


def absent_plane_needs_nothing(patch: Patch) -> None:
    """The fleet's loop takes a plane whose loads it does not hear for one without any."""
    whole = rounds._targets

    def targets(deployment: Any, decision: Any, *told: Any) -> tuple[tuple[str, int], ...]:
        found = whole(deployment, decision, *told)
        return tuple((plane, 0 if plane in decision.unheard else n) for plane, n in found)

    patch.setattr(rounds, "_targets", targets)


def filled_on_the_way_down(patch: Patch) -> None:
    """Down to what full replicas are enough for, and up to what is to be spare."""
    whole = local.settle

    def settle(need: Any, highest: int, running: int, watched: bool, tuning: Any) -> Any:
        full = max(1, math.ceil(need.work))
        if watched and full < running and need.replicas <= running:
            return full, Because.SURPLUS
        return whole(need, highest, running, watched, tuning)

    for module in (local, fleetwide):
        patch.setattr(module, "settle", settle)


def held_requests_wake_nobody(patch: Patch) -> None:
    """Who waits where nothing runs is left to the loops that count now and then."""
    whole = demand.woken
    patch.setattr(
        grants,
        "woken",
        lambda envelopes, running, *told: whole(envelopes, running, *told) if running else {},
    )


PLANTS = (
    Plant("no fence", no_fence, "I4", ("control-pause",)),
    Plant("generation check dropped", generation_check_dropped, "I2", ("harsh-network",), seed=3),
    Plant("old dropped before new ready", dropped_before_ready, "I3", seed=15),
    Plant("starting counts as ready", starting_counts_as_ready, "I3", seed=23),
    Plant("empty list obeyed", empty_list_obeyed, "I8", seed=7),
    Plant("no leadership grace", no_leadership_grace, "I8", ("control-crash", "isolation"), seed=6),
    Plant("witness ignored", witness_ignored, "I8", seed=4),
    Plant("stale views count", stale_views_count, "I8", ("stale-views",), seed=25),
    Plant("freeze ignored", freeze_ignored, "I9", ("majority",), seed=14),
    Plant("ceiling overrun", ceiling_overrun, "I10"),
    Plant("residency skipped in emergency", residency_skipped_in_emergency, "I5", seed=3),
    Plant("effect doubled by a repeat", effect_doubled_by_repeat, "I11"),
    Plant("drain ignores min_available", drain_ignores_min_available, "I3", seed=11),
    Plant("torn file is empty", torn_file_is_empty, "I7", ("torn-file",)),
    Plant(
        "envelope of a plane that is away given away",
        away_is_given_away,
        "I10",
        ("partition",),
        seed=18,
    ),
    Plant("move budget ignored", move_budget_ignored, "I9", seed=50),
    Plant("silence unnoticed", silence_unnoticed, "I14", ("one-way", "partition")),
    Plant("a node's place taken twice", place_taken_twice, "I1"),
    Plant("grants beyond the pool", grants_beyond_the_pool, "I1", seed=61),
    Plant("pushed and not stored", pushed_and_not_stored, "I13"),
    Plant("scaled to zero by itself", scaled_to_zero, "I16"),
    Plant("drained at once", drained_at_once, "I18", seed=6),
    Plant("late requests are forgotten", late_requests_forgotten, "I18", seed=12),
    Plant("recovery not asked", recovery_not_asked, "I12", ("older-backup",), seed=8),
    Plant(
        "second look does not ask the recovery",
        second_look_asks_nobody,
        "I12",
        ("lost-database", "older-backup", "agent-pause"),
        seed=82,
    ),
    Plant(
        "what was torn is forgotten",
        forgets_what_was_torn,
        "I12",
        ("torn-file", "older-backup"),
        seed=44,
    ),
    Plant("highest version not kept alone", highest_not_kept_alone, "I2", ("torn-file",), seed=11),
    Plant("new revision everywhere at once", everywhere_at_once, "G7", seed=25),
    Plant("first replica is not waited for", first_not_waited_for, "G7"),
    Plant("late Hellos are taken", late_hellos_taken, "L1", ("held-up",), seed=3),
    Plant("a stale signal is zero", stale_signal_is_zero, "S3", ("hosts-silence",), seed=3),
    Plant("a plane's loop overruns its ceiling", loop_overruns_its_ceiling, "S1", ("load",)),
    Plant(
        "an absent plane needs nothing",
        absent_plane_needs_nothing,
        "S4",
        ("loads-untold",),
        seed=15,
    ),
    Plant("filled on the way down", filled_on_the_way_down, "S5", ("load",)),
    Plant("held requests wake nobody", held_requests_wake_nobody, "S6", ("load",), seed=57),
    Plant("unknown is nothing", unknown_is_nothing, "I8", ("torn-file",)),
)


def forget() -> None:
    """Forget what was solved with a bug or without one."""
    control.forget()


def plant(bug: Plant, patch: Patch) -> None:
    """Put the bug in; what was computed without it is forgotten."""
    bug.put(patch)
    forget()
