"""Planted bugs: each takes one rule out of the product's own code, as a mistake would.

Every one must be found within SEEDS_MAX seeds; one that is not found fails the run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from control_plane.reconcile import classify, envelopes, failover, loop
from control_plane.reconcile.snapshot import Snapshot
from control_plane.store import fencing, requests
from scheduler import arrays, check, conflicts, feasibility
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import UNKNOWN, PlaneState, ReplicaState
from skerry.plumbing.errors import Corrupt
from tests.simulation import control
from tests.simulation.store import SimStore
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
    """One bug: what it is called, how it is planted, and which invariants may find it.

    `kinds` of faults come on top of those that each seed chooses: they are where it would bite.
    """

    name: str
    put: Callable[[Patch], None]
    found_by: tuple[str, ...]
    kinds: tuple[str, ...] = ()


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
        if store.timeline.now > 15.0 and store.timeline.random.random() < 0.05:
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


def freeze_ignored(patch: Patch) -> None:
    """However many are silent, each is judged by itself."""
    patch.setattr(
        failover, "freeze_of", lambda snapshot: failover.Freeze(silent=(), counted=99, frozen=False)
    )
    patch.setattr(loop, "freeze_of", failover.freeze_of)


def ceiling_overrun(patch: Patch) -> None:
    """A plane runs more than it was granted."""
    whole = converge._targets
    patch.setattr(
        converge,
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


PLANTS = (
    Plant("no fence", no_fence, ("I4",), ("control-pause",)),
    Plant("generation check dropped", generation_check_dropped, ("I2",), ("harsh-network",)),
    Plant("old dropped before new ready", dropped_before_ready, ("I3/I6",)),
    Plant("starting counts as ready", starting_counts_as_ready, ("I3/I6",)),
    Plant("empty list obeyed", empty_list_obeyed, ("I8", "I3/I6")),
    Plant("no leadership grace", no_leadership_grace, ("I8",), ("control-crash", "isolation")),
    Plant("witness ignored", witness_ignored, ("I8",)),
    Plant("freeze ignored", freeze_ignored, ("I9",), ("majority",)),
    Plant("ceiling overrun", ceiling_overrun, ("I10",)),
    Plant("residency skipped in emergency", residency_skipped_in_emergency, ("I5",)),
    Plant("effect doubled by a repeat", effect_doubled_by_repeat, ("I11",)),
    Plant("drain ignores min_available", drain_ignores_min_available, ("I3", "I3/I6")),
    Plant("torn file is empty", torn_file_is_empty, ("I7",), ("torn-file",)),
    Plant(
        "envelope of a plane that is away given away",
        away_is_given_away,
        ("I10", "I3/I6"),
        ("partition",),
    ),
    Plant("move budget ignored", move_budget_ignored, ("I9",)),
    Plant("silence unnoticed", silence_unnoticed, ("I14",), ("one-way", "partition")),
    Plant("unknown is nothing", unknown_is_nothing, ("I8",), ("torn-file",)),
)


def forget() -> None:
    """Forget what was solved with a bug or without one."""
    control.forget()


def plant(bug: Plant, patch: Patch) -> None:
    """Put the bug in; what was computed without it is forgotten."""
    bug.put(patch)
    forget()
