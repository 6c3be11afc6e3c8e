"""What must hold in the simulated world at every event; apart from the code that is watched.

One class for each invariant, named as `faults.md` numbers them. I14 is in
run.py, I15 in test_simulation.py. No world restores a database: I12 is held by tests/store/
test_recovery.py. I17 (no secret told) is not watched here, and I18 (a request ends once) is held by
the ledger of tests/faults: there are no requests here.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import cast

from control_plane.store.values import StoredDesired
from skerry.fleet.cordon import Cordons
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneState, ReplicaState, Unknown
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import resides
from tests.simulation.plane import SimPlane
from tests.simulation.store import Entry
from tests.simulation.world import World
from workload_plane.converge.actions import Action, DrainReplica, StartReplica, StopReplica

# What the control plane knows is as old as a heartbeat's timeout, a slow message and a turn.
RACE_SECONDS = 9.0
# A witness's verdict is as old as two probes and a report.
SIGHT_SECONDS = 8.0
SURELY_SECONDS = 1.0  # a message was under way


Counts = Mapping[tuple[str, str], int]  # replicas by deployment and pool
Desires = tuple[StoredDesired | None, StoredDesired]  # what a plane was told before, and is now


class Broken(AssertionError):
    """A safety statement that did not hold."""


def fail(world: World, invariant: str, text: str) -> None:
    """Raise what stops the run; the first one is kept, whoever swallows it."""
    world.broken = world.broken or f"{invariant} at {world.now:.2f} s: {text}"
    raise Broken(world.broken)


class I1PoolsAreNeverOverfull:
    """Replicas never take more than a node has, nor one that is gone; nor may grants."""

    def __init__(self, world: World) -> None:
        self.world = world
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
        if entry.kind != "desired.stored":
            return
        before, after = cast(Desires, told)
        plane = self.world.planes[entry.subject]
        stored = self.world.store.rows.planes.get(entry.subject)
        known = sum(shape.accelerators for shape in stored.pools) if stored else 0
        room = max(known, len(plane.nodes))  # a node may be gone that nobody told of yet
        granted = sum(e.ceiling for e in after.envelopes or ())
        held = sum(e.ceiling for e in before.envelopes or ()) if before else 0
        if granted > max(room, held):
            fail(self.world, "I1", f"{entry.subject} is granted {granted} of {room} accelerators")


class I2PlanesNeverGoBack:
    """A plane never takes up an epoch or a generation below the highest it durably had.

    A disk that lied about it lost it: then it is what the disk still tells.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: dict[str, Version] = {}
        for plane in world.planes.values():
            plane.holder.on_accept.append(self.accepted)
            plane.holder.on_load.append(partial(self.loaded, plane))

    def loaded(self, plane: SimPlane) -> None:
        """Go by what a torn disk still tells."""
        if plane.name in self.world.torn:
            self.seen[plane.name] = plane.holder.seen

    def accepted(self, state: DesiredState) -> None:
        """Compare with the highest version so far."""
        version, seen = state.version, self.seen.get(state.plane, NEVER)
        if version.epoch < seen.epoch or version.generation < seen.generation:
            fail(self.world, "I2", f"{state.plane} went from {seen} back to {version}")
        self.seen[state.plane] = version


class I3I6OldStaysUntilNewIsReady:
    """Nobody is told to end replicas while too few of the deployment are ready elsewhere.

    What fell out within the last seconds is nobody's fault, and what has no room is the solver's
    choice; a drain has no such excuse.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Count what still serves within what is granted, after each smaller grant."""
        if entry.kind == "placements.decided":
            self._decided(*cast(tuple[Counts, Counts], told))
        if entry.kind != "desired.stored":
            return
        before, after = cast(Desires, told)
        held = {e.deployment: e.target for e in before.envelopes or ()} if before else {}
        granted = {e.deployment: e.target for e in after.envelopes or ()}
        for name, target in held.items():
            if granted.get(name, 0) < target:
                self._shrunk(entry.subject, name)

    def _decided(self, before: Counts, after: Counts) -> None:
        """A drain leaves what has no other place where it was placed."""
        world, rows = self.world, self.world.store.rows
        shed = {one[0] for one in rows.decision.shed} if rows.decision else set()
        for (name, pool), count in before.items():
            stored = rows.deployments.get(name)
            plane = pool.partition("--")[0]
            condition = world.conditions().get(plane)
            if stored is None or stored.deleting or condition is None or name in shed:
                continue
            less = count - after.get((name, pool), 0)
            placed = sum(n for (other, _), n in after.items() if other == name)
            least = stored.deployment.scaling.min_replicas
            heard = condition.state in HEARD
            changed = world.now - world.changed_at.get(name, -60.0) < RACE_SECONDS
            if less > 0 and placed < least and heard and not changed and self._is_drained(plane):
                fail(world, "I3", f"the drain of {pool} leaves {name} {placed} of {least} places")

    def _shrunk(self, plane: str, name: str) -> None:
        world, rows = self.world, self.world.store.rows
        stored = rows.deployments.get(name)
        if stored is None or stored.deleting or self._is_excused(plane, name):
            return
        kept = 0
        for other in world.planes.values():
            desired = rows.desired.get(other.name)
            target = sum(
                e.target
                for e in (desired.envelopes or () if desired else ())
                if e.deployment == name
            )
            kept += min(target, len(other.serving(name)))
        least = stored.deployment.scaling.min_replicas
        if kept < least:
            fail(world, "I3/I6", f"{plane} may end {name} while {kept} of {least} stay ready")

    def _is_excused(self, plane: str, name: str) -> bool:
        world = self.world
        recent = world.now - RACE_SECONDS
        if world.changed_at.get(name, -RACE_SECONDS) >= recent:
            return True
        if world.faulted_at.get(name, -RACE_SECONDS) >= recent:
            return True
        decision = world.store.rows.decision
        unplaced = {one[0] for one in decision.unplaced} if decision else set()
        # Finding H6-3: what runs where it is placed no more ends though it has no other place.
        return name in unplaced or (bool(unplaced) and not self._is_drained(plane))

    def _is_drained(self, plane: str) -> bool:
        rows = self.world.store.rows
        cordons = Cordons(tuple(rows.cordons.values()))
        pools = [p.pool for p in self.world.store.renew().pools if p.pool.plane.name == plane]
        found = [cordons.of_pool(pool) for pool in pools]
        return any(cordon is not None and cordon.draining for cordon in found)


class I4DeposedLeadersWriteNothing:
    """What is committed was written under the epoch that led at that moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Compare both epochs."""
        del told
        if entry.epoch != entry.leading:
            fail(self.world, "I4", f"epoch {entry.epoch} wrote {entry.kind}, {entry.leading} leads")


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
        self.world.torn.discard(state.plane)

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


class I8AbsenceDecidesNothing:
    """No plane is lost by silence alone, nor does a state forget what runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.blind_at: dict[tuple[str, str], float] = {}  # witness, subject: saw nothing serve
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            plane.holder.on_accept.append(partial(self.accepted, plane))
            plane.on_action.append(self.acted)
        self._look()

    def _look(self) -> None:
        """Note who could see whom serve, independently of anybody's report."""
        world = self.world
        for plane in world.planes.values():
            for other in plane.others:
                if not (plane.powered and plane.sees(other) and other.serves):
                    self.blind_at[plane.name, other.name] = world.now
        world.timeline.after(1.0, self._look)

    def stored(self, entry: Entry, told: object) -> None:
        """Ask for the evidence whenever a plane is judged lost."""
        if entry.kind != "plane.lost" or not isinstance(told, PlaneCondition) or told.declared:
            return
        world, leader = self.world, self.world.leader
        policy = world.policy
        if leader is None or leader.reign is None:
            return
        age = world.now - leader.reign.since
        if age < policy.grace_seconds():
            fail(world, "I8", f"{entry.subject} is lost {age:.1f} s after the leader's start")
        lost = {n for n, c in world.conditions().items() if c.state is PlaneState.LOST}
        others = [n for n in world.planes if n != entry.subject and n not in lost]
        blind = [
            name
            for name in others
            if world.now - self.blind_at.get((name, entry.subject), -1e9) <= SIGHT_SECONDS
        ]
        if len(blind) < min(policy.witnesses_min, len(others)) or not others:
            fail(world, "I8", f"{entry.subject} is lost, and only {blind} saw nothing serve there")

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Ask that something is desired before anything is done."""
        if isinstance(plane.holder.state, Unknown):
            fail(self.world, "I8", f"{plane.name} knows nothing, and does: {action.describe()}")

    def accepted(self, plane: SimPlane, state: DesiredState) -> None:
        """Ask that everything that runs is named."""
        said = {assignment.deployment.name for assignment in state.assignments}
        forgotten = {name for name, _ in plane.running()} - said
        if forgotten:
            fail(self.world, "I8", f"{plane.name} took up a state that forgets {forgotten}")


class I9NoMassFailover:
    """While more than half of the planes fell silent together, none is judged lost by itself.

    Those that were silent for longer than a lease before the others count for neither side.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Count by what really arrived at the leader."""
        if entry.kind != "plane.lost" or not isinstance(told, PlaneCondition) or told.declared:
            return
        world, leader = self.world, self.world.leader
        if leader is None or leader.reign is None:
            return
        if world.now - leader.process.resumed_at < SURELY_SECONDS:
            return  # decided before it hung, and by what it knew then
        reign, policy = leader.reign, world.policy
        lost = {n for n, c in world.conditions().items() if c.state is PlaneState.LOST}
        counted = [n for n in world.planes if n == entry.subject or n not in lost]
        heard = {n: reign.heard_at.get(n, reign.since) for n in counted}
        late = world.now - policy.heartbeat_timeout_seconds - SURELY_SECONDS
        silent = [n for n in counted if heard[n] < late]
        near = policy.lease_seconds - SURELY_SECONDS
        for first in silent:
            group = [n for n in silent if 0.0 <= heard[n] - heard[first] <= near]
            others = len(counted) - len(silent) + len(group)
            if entry.subject in group and len(group) > others / 2:
                fail(world, "I9", f"{entry.subject} is lost while {group} of {counted} are silent")


class I9FewMoves:
    """No more healthy replicas move in a minute than the policy allows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._moved: list[tuple[float, int]] = []
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Add up what moved by this decision and those of the minute before."""
        if entry.kind != "placements.decided":
            return
        world = self.world
        before, after = cast(tuple[Counts, Counts], told)
        stops: Counter[str] = Counter()
        starts: Counter[str] = Counter()
        for name, pool in before.keys() | after.keys():
            more = after.get((name, pool), 0) - before.get((name, pool), 0)
            if more > 0:
                starts[name] += more
            elif self._is_healthy(pool):
                stops[name] -= more
        moves = sum(min(stops[name], starts[name]) for name in stops)
        self._moved.append((world.now, moves))
        minute = sum(count for at, count in self._moved if at > world.now - 59.0)
        most = world.policy.moves_per_minute_max
        # What a minute is, the leader's wall clock says.
        jumped = any(control.clock.skew_seconds for control in world.controls.values())
        if moves and minute > most and not jumped:
            fail(world, "I9", f"{minute} moves within a minute, {most} allowed")

    def _is_healthy(self, pool: str) -> bool:
        world = self.world
        plane = pool.partition("--")[0]
        condition = world.conditions().get(plane)
        cordoned = any(plane in name for name in world.store.rows.cordons)
        return condition is not None and condition.state in HEARD and not cordoned


class I10EnvelopesBound:
    """A plane never starts beyond its envelope; all disks together never allow beyond the maximum.

    A plane that was taken for lost may overshoot by its own ceiling until it is reconciled, and an
    operator's smaller maximum takes effect with the next pushes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._excused_at = -RACE_SECONDS
        for plane in world.planes.values():
            plane.on_action.append(self.acted)
            plane.holder.on_accept.append(lambda state: self.accepted())

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
        most = max(envelope.ceiling, envelope.target + 1) if envelope else 0
        if len(live) > most:
            fail(
                self.world, "I10", f"{plane.name} runs {len(live)} of {action.deployment} of {most}"
            )

    def accepted(self) -> None:
        """Add up the room above the targets on all disks."""
        world = self.world
        conditions = world.conditions()
        if any(c.state in (PlaneState.RECOVERING, PlaneState.LOST) for c in conditions.values()):
            self._excused_at = world.now
        if world.now - self._excused_at < RACE_SECONDS or world.torn:
            return
        for stored in world.store.rows.deployments.values():
            scaling, name = stored.deployment.scaling, stored.deployment.name
            if world.now - world.changed_at.get(name, -60.0) < 60.0 or stored.deleting:
                continue
            room = 0
            for plane in world.planes.values():
                state = plane.holder.state
                if not isinstance(state, Unknown):
                    envelope = state.envelope(name, plane.pool)
                    room += envelope.ceiling - envelope.target if envelope else 0
            if room > scaling.max_replicas - scaling.min_replicas:
                fail(world, "I10", f"{name}: room for {room} more replicas on the planes' disks")


class I11OneEffectForARequest:
    """A call that is repeated under its request id changes something once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._done: set[str] = set()
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Count effects by request id."""
        del told
        if entry.request_id and entry.request_id in self._done:
            fail(self.world, "I11", f"{entry.kind} of {entry.subject} was done twice")
        self._done.add(entry.request_id)


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
    """A plane ends its last replica of a deployment only when it was told to have none."""

    def __init__(self, world: World) -> None:
        self.world = world
        for plane in world.planes.values():
            plane.on_action.append(self.acted)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Look at what is left after each end."""
        state = plane.holder.state
        if not isinstance(action, DrainReplica | StopReplica) or isinstance(state, Unknown):
            return
        if isinstance(action, StopReplica) and "drain" in action.reason:
            return  # it served nobody any more
        for assignment in state.assignments:
            name = assignment.deployment.name
            if not action.name.startswith(f"{name}-"):
                continue
            told = sum(e.target for e in assignment.envelopes)
            live = [
                r
                for r in plane.replicas.values()
                if r.deployment == name and r.state in (ReplicaState.STARTING, ReplicaState.READY)
            ]
            if told and not assignment.tombstone and not live:
                fail(self.world, "I16", f"{plane.name} ends its last {name} of {told}")


CHECKERS = (
    I1PoolsAreNeverOverfull,
    I2PlanesNeverGoBack,
    I3I6OldStaysUntilNewIsReady,
    I4DeposedLeadersWriteNothing,
    I5ResidencyAndApartness,
    I7DiskHoldsWhatWasAcknowledged,
    I8AbsenceDecidesNothing,
    I9NoMassFailover,
    I9FewMoves,
    I10EnvelopesBound,
    I11OneEffectForARequest,
    I13EverythingIsInTheLog,
    I16NeverToZeroByItself,
)


def watch(world: World) -> None:
    """Have everything watched from now on."""
    for checker in CHECKERS:
        checker(world)
