"""What must hold in the simulated world at every event; apart from the code that is watched.

One class for each invariant, named as `faults.md` numbers them; L1 is of the link, S1 to S5 of
scaling by load are in scaled.py. I14 is in
run.py, I15 in test_simulation.py. Of I18 (a request ends once) it is watched that no plan cuts one;
I17 (no secret told) is not: docs/contributing/tests.md says where it is, and why.

What is decided and stored is watched by decisions.py, what planes do by what is here.
"""

import re
from collections import Counter
from functools import partial
from typing import cast

from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import PlaneState, ReplicaState, Unknown
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import resides
from tests.simulation import messages as said
from tests.simulation.breaches import (
    RACE_SECONDS,
    SURELY_SECONDS,
    Desires,
    fail,
)
from tests.simulation.control import Reign, SimControlPlane
from tests.simulation.decisions import (
    G7PoisonStaysOnOnePlane,
    I3I6OldStaysUntilNewIsReady,
    I4DeposedLeadersWriteNothing,
    I8AbsenceDecidesNothing,
    I9FewMoves,
    I9NoMassFailover,
    I11OneEffectForARequest,
    I12NothingOlderIsTold,
)
from tests.simulation.plane import SimPlane
from tests.simulation.scaled import SCALING_CHECKERS
from tests.simulation.store import Backup, Entry
from tests.simulation.world import World
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.seen import SeenReplica


class I1PoolsAreNeverOverfull:
    """Replicas never take more than a node has, nor one that is gone; nor may grants.

    A turn that began before a report of fewer nodes goes by what was known then.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: dict[str, tuple[float, int, int]] = {}  # since when, so many, and before
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            plane.on_action.append(self.acted)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Look at the plane after each start."""
        if not isinstance(action, StartReplica):
            return
        used = Counter(
            node
            for r in plane.replicas.values()
            if r.state is not ReplicaState.FAILED
            for node in r.nodes
        )
        over = sorted(node for node in action.nodes if used[node] > 1 or node in plane.lost_nodes)
        if over or not action.nodes:
            fail(
                self.world, "I1", f"{plane.name} starts {action.deployment} on {over or 'no node'}"
            )

    def stored(self, entry: Entry, told: object) -> None:
        """Look at what planes may run after each grant."""
        if entry.kind == "plane.reported":
            self._reported(entry.subject)
        if entry.kind != "desired.stored":
            return
        before, after = cast(Desires, told)
        plane = self.world.planes[entry.subject]
        stored = self.world.store.rows.planes.get(entry.subject)
        known = sum(shape.accelerators for shape in stored.pools) if stored else 0
        since, _, earlier = self._known.get(entry.subject, (0.0, 0, 0))
        if self.world.now - since < SURELY_SECONDS:
            known = max(known, earlier)
        room = max(known, len(plane.nodes))  # a node may be gone that nobody told of yet
        granted = sum(e.ceiling for e in after.envelopes or ())
        held = sum(e.ceiling for e in before.envelopes or ()) if before else 0
        if granted > max(room, held):
            fail(self.world, "I1", f"{entry.subject} is granted {granted} of {room} accelerators")

    def _reported(self, plane: str) -> None:
        pools = self.world.store.rows.planes[plane].pools
        known = sum(shape.accelerators for shape in pools)
        self._known[plane] = (self.world.now, known, self._known.get(plane, (0.0, 0, 0))[1])


class I2PlanesNeverGoBack:
    """A plane never takes up an epoch or a generation below the highest it durably had.

    It is kept beside the state, alone; a disk that lied about both lost it: then it is what the
    disk still tells.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: dict[str, Version] = {}
        for plane in world.planes.values():
            plane.holder.on_accept.append(self.accepted)
            plane.holder.on_load.append(partial(self.loaded, plane))

    def loaded(self, plane: SimPlane) -> None:
        """Go by what a torn disk still tells, where it lost the version as well."""
        seen = plane.holder.seen
        if plane.name in self.world.unseen:
            self.seen[plane.name] = seen
        elif seen < self.seen.get(plane.name, NEVER):
            fail(self.world, "I2", f"{plane.name} knows {seen} only, had {self.seen[plane.name]}")

    def accepted(self, state: DesiredState) -> None:
        """Compare with the highest version so far."""
        version, seen = state.version, self.seen.get(state.plane, NEVER)
        if version.epoch < seen.epoch or version.generation < seen.generation:
            fail(self.world, "I2", f"{state.plane} went from {seen} back to {version}")
        self.seen[state.plane] = version


class I5ResidencyAndApartness:
    """No replica starts outside its zones, nor on a plane with whom it must not share."""

    def __init__(self, world: World) -> None:
        self.world = world
        for plane in world.planes.values():
            plane.on_action.append(self.acted)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Look at each start, by what was asked for and not by what was granted."""
        if not isinstance(action, StartReplica):
            return
        asked = {d.name: d for d in self.world.fleet.deployments}
        starting = asked.get(action.deployment)
        if starting is None:
            return
        zones = starting.policy.residency_zones
        if zones and not resides(plane.identity.residency_zones, zones):
            fail(self.world, "I5", f"{action.deployment} starts on {plane.name}, outside {zones}")
        for other in self._here(plane) & asked.keys() - {starting.name}:
            foes = starting.policy.anti_affinity
            if other in foes or starting.name in asked[other].policy.anti_affinity:
                fail(self.world, "I5", f"{starting.name} starts beside {other} on {plane.name}")

    def _here(self, plane: SimPlane) -> set[str]:
        """Return what runs on the plane, also what is to leave it."""
        return {r.deployment for r in plane.replicas.values() if r.state is not ReplicaState.FAILED}


class L1NewestStreamCounts:
    """A plane's stream takes the place only of those that its agent opened before it.

    What one that was given up says in a Hello that comes late was so before.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._reigns: dict[SimControlPlane, Reign] = {}
        self._newest: dict[tuple[SimControlPlane, str], int] = {}  # by the agent's run
        for control in world.controls.values():
            control.on_greet.append(partial(self.greeted, control))

    def greeted(self, control: SimControlPlane, reign: Reign, hello: said.Hello) -> None:
        """Compare with the newest of its streams that this leader took in."""
        if self._reigns.get(control) is not reign:  # it knows nothing of before
            self._reigns[control] = reign
            self._newest = {key: n for key, n in self._newest.items() if key[0] is not control}
        key = control, hello.agent_id
        newest = self._newest.get(key, 0)
        if hello.stream_number < newest:
            told = f"stream {hello.stream_number} of {hello.agent_id}"
            fail(self.world, "L1", f"{control.name} takes {told} after stream {newest}")
        self._newest[key] = hello.stream_number


class I7DiskHoldsWhatWasAcknowledged:
    """An agent loads what it made durable last, whole; torn, an earlier one or none."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.newest: dict[str, Version] = {}
        for plane in world.planes.values():
            plane.holder.on_load.append(partial(self.loaded, plane))
            plane.holder.on_accept.append(self.accepted)

    def accepted(self, state: DesiredState) -> None:
        """Remember it; the file is whole again."""
        self.newest[state.plane] = state.version
        self.world.whole(state.plane)

    def loaded(self, plane: SimPlane) -> None:
        """Compare with what was stored."""
        state, newest = plane.holder.state, self.newest.get(plane.name)
        torn = plane.name in self.world.torn
        if isinstance(state, Unknown):
            if newest is not None and not torn:
                fail(self.world, "I7", f"{plane.name} lost {newest} from its disk")
            return
        stored = dict(plane.disk.stored)
        if state.version not in stored:
            fail(self.world, "I7", f"{plane.name} loads {state.version}, never stored")
        if newest is not None and not torn and state.version < newest:
            fail(self.world, "I7", f"{plane.name} loads {state.version}, acknowledged {newest}")


class I10EnvelopesBound:
    """A plane never starts beyond its envelope; all disks together never allow beyond the maximum.

    A plane that was taken for lost may overshoot by its own ceiling until it took up what it is
    told once it is back, and an operator's smaller maximum takes effect with the next pushes. So
    does what a plane takes up that its database has forgotten: what was told before a restore a
    slow disk may still be writing, and nobody can count with it before the plane has told of it.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._excused_at = -RACE_SECONDS
        self._given_away: set[str] = set()  # planes whose share others have by now
        # By plane and generation what the database knows that it told, and since when.
        self._told: dict[tuple[str, int], tuple[float, frozenset[Envelope]]] = {}
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            plane.on_action.append(self.acted)
            plane.holder.on_accept.append(self.accepted)

    def stored(self, entry: Entry, told: object) -> None:
        """Remember whose share is given away, and what the database knows."""
        if isinstance(told, Backup):
            self._told = {key: one for key, one in self._told.items() if one[0] <= told.at}
        if entry.kind.startswith("desired."):
            desired = self.world.store.rows.desired[entry.subject]
            key = (entry.subject, desired.version.generation)
            self._told[key] = entry.at, frozenset(desired.envelopes or ())
        if entry.kind == "plane.lost":
            self._given_away.add(entry.subject)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Compare each start with the envelope on the disk."""
        state = plane.holder.state
        if not isinstance(action, StartReplica) or isinstance(state, Unknown):
            return
        envelope = state.envelope(action.deployment, action.pool)
        live = [
            r
            for r in plane.replicas.values()
            if r.deployment == action.deployment
            and r.state in (ReplicaState.STARTING, ReplicaState.READY)
        ]
        # One more is there while another revision takes a place, whoever decides the number.
        wanted = plane.wanted.get((action.deployment, action.pool), 0)
        most = max(envelope.ceiling, max(envelope.target, wanted) + 1) if envelope else 0
        if len(live) > most:
            fail(
                self.world, "I10", f"{plane.name} runs {len(live)} of {action.deployment} of {most}"
            )

    def accepted(self, state: DesiredState) -> None:
        """Add up the room above the targets on all disks."""
        world = self.world
        conditions = world.conditions()
        condition = conditions.get(state.plane)
        if condition is not None and condition.state is not PlaneState.LOST:
            self._given_away.discard(state.plane)
        away = any(c.state in (PlaneState.RECOVERING, PlaneState.LOST) for c in conditions.values())
        if away or self._given_away or any(map(self._is_forgotten, world.planes.values())):
            self._excused_at = world.now
        if world.now - self._excused_at < RACE_SECONDS or world.torn:
            return
        for stored in world.store.rows.deployments.values():
            scaling, name = stored.deployment.scaling, stored.deployment.name
            if world.now - world.changed_at.get(name, -60.0) < 60.0 or stored.deleting:
                continue
            room = 0
            for plane in world.planes.values():
                there = plane.holder.state
                if not isinstance(there, Unknown):
                    envelope = there.envelope(name, plane.pool)
                    room += envelope.ceiling - envelope.target if envelope else 0
            if room > scaling.max_replicas - scaling.min_replicas:
                fail(world, "I10", f"{name}: room for {room} more replicas on the planes' disks")

    def _is_forgotten(self, plane: SimPlane) -> bool:
        """Say whether the plane holds what the database does not know that it told."""
        state = plane.holder.state
        if isinstance(state, Unknown):
            return False
        _, told = self._told.get((plane.name, state.version.generation), (0.0, None))
        return told != frozenset(state.envelopes)


class I13EverythingIsInTheLog:
    """What a plane takes up was committed, with an entry in the log, before."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._told: dict[tuple[str, int], tuple[Envelope, ...] | None] = {}
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            plane.holder.on_accept.append(self.accepted)

    def stored(self, entry: Entry, told: object) -> None:
        """Remember what was told under which generation."""
        if entry.kind.startswith("desired."):
            desired = self.world.store.rows.desired[entry.subject]
            key = (entry.subject, desired.version.generation)
            self._told[key] = desired.envelopes
        del told

    def accepted(self, state: DesiredState) -> None:
        """Look it up."""
        told = self._told.get((state.plane, state.version.generation))
        mine = {(e.deployment, e.pool): e for e in state.envelopes}
        if told is None or mine != {(e.deployment, e.pool): e for e in told}:
            fail(self.world, "I13", f"{state.plane} holds {state.version}, which nobody stored")


class I16NeverToZeroByItself:
    """A plane ends its last replica of a deployment only when it was told to have none.

    Where two revisions don't fit beside each other, the last of the old one goes before the first
    of the new one starts: as many as the rollout may have away.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: dict[str, SeenReplica] = {}  # by name, as they were seen last
        for plane in world.planes.values():
            plane.on_action.append(self.acted)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Look at what is left after each end."""
        self._known |= plane.replicas
        state = plane.holder.state
        if not isinstance(action, DrainReplica | StopReplica) or isinstance(state, Unknown):
            return
        if isinstance(action, StopReplica) and "drain" in action.reason:
            return  # it served nobody any more
        ended = self._known.get(action.name)
        for assignment in state.assignments:
            name = assignment.deployment.name
            if ended is None or ended.deployment != name or assignment.tombstone:
                continue
            told = sum(e.target for e in assignment.envelopes)
            live = [
                r
                for r in plane.replicas.values()
                if r.deployment == name and r.state in (ReplicaState.STARTING, ReplicaState.READY)
            ]
            newest = assignment.revisions[-1].number
            away = assignment.deployment.rollout.max_unavailable
            replaced = ended.revision != newest and away >= told
            if told and not live and not replaced:
                fail(self.world, "I16", f"{plane.name} ends its last {name} of {told}")


class I18PlansCutNoRequest:
    """What a plan ends has answered all that it was sent: faults alone cut requests.

    That includes what comes after a drain began, for a gateway learns of it in a moment.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        for plane in world.planes.values():
            plane.on_action.append(self.acted)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Look at what each end cuts off."""
        if isinstance(action, StopReplica | FenceReplica) and action.name in plane.cut:
            fail(self.world, "I18", f"{plane.name} cuts a request: {action.describe()}")


CHECKERS = (
    I1PoolsAreNeverOverfull,
    I2PlanesNeverGoBack,
    I3I6OldStaysUntilNewIsReady,
    I4DeposedLeadersWriteNothing,
    I5ResidencyAndApartness,
    I7DiskHoldsWhatWasAcknowledged,
    L1NewestStreamCounts,
    I8AbsenceDecidesNothing,
    I9NoMassFailover,
    I9FewMoves,
    I10EnvelopesBound,
    I11OneEffectForARequest,
    I12NothingOlderIsTold,
    I13EverythingIsInTheLog,
    I16NeverToZeroByItself,
    I18PlansCutNoRequest,
    G7PoisonStaysOnOnePlane,
    *SCALING_CHECKERS,
)


def watch(world: World, only: str = "") -> None:
    """Have everything watched from now on, or one invariant alone."""
    for checker in CHECKERS:
        if not only or only in re.findall(r"[A-Z]\d+", checker.__name__):
            checker(world)
