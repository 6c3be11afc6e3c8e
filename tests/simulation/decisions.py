"""What must hold of all that control planes decide and store, one class for each invariant."""

from collections import Counter
from functools import partial
from typing import cast

from skerry.fleet.cordon import Cordons
from skerry.fleet.deployment import Revision
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneState, Unknown
from skerry.fleet.placement import Envelope
from skerry.fleet.rollout import Rollout, Stage
from tests.simulation.breaches import (
    RACE_SECONDS,
    SIGHT_SECONDS,
    SURELY_SECONDS,
    Counts,
    Desires,
    fail,
)
from tests.simulation.control import decoded
from tests.simulation.fleets import HANG, START, poison_of
from tests.simulation.plane import SimPlane
from tests.simulation.store import Backup, Entry
from tests.simulation.world import World
from workload_plane.converge.actions import Action

HEARD_SECONDS = 2.0  # since a plane said anything: a heartbeat is a second, and may be late


class I3I6OldStaysUntilNewIsReady:
    """Nobody is told to end replicas while too few of the deployment are ready elsewhere.

    What ended by itself within the last seconds counts as it did before, and of two bounds that an
    operator gave within them the smaller: nobody can know of either yet.
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
            serving = len(self.world.planes[entry.subject].serving(name))
            if granted.get(name, 0) < min(target, serving):
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
            least = self._least(name)
            heard = condition.state in HEARD
            if less > 0 and placed < least and heard and self._is_drained(plane):
                fail(world, "I3", f"the drain of {pool} leaves {name} {placed} of {least} places")

    def _shrunk(self, plane: str, name: str) -> None:
        world, rows = self.world, self.world.store.rows
        stored = rows.deployments.get(name)
        if stored is None or stored.deleting:
            return
        kept = 0
        for other in world.planes.values():
            desired = rows.desired.get(other.name)
            target = sum(
                e.target
                for e in (desired.envelopes or () if desired else ())
                if e.deployment == name
            )
            ended = world.ended_since(other.name, name, world.now - RACE_SECONDS)
            kept += min(target, len(other.serving(name)) + ended)
        least = self._least(name)
        if kept < least and not self._gives_way(plane, name):
            fail(world, "I3", f"{plane} may end {name} while {kept} of {least} stay ready")

    def _gives_way(self, plane: str, name: str) -> bool:
        """Say whether it has no place, and what has one takes all that is left of this plane.

        A node that came back within the last seconds is no room yet: what is stored now may be
        decided from a look before that, or from a report that did not tell of it.
        """
        rows = self.world.store.rows
        decision, there = rows.decision, self.world.planes[plane]
        if decision is None or name not in {one[0] for one in decision.unplaced}:
            return False
        placed = sum(p.count for p in rows.placements if p.pool == there.pool)
        return placed >= len(there.nodes_since(self.world.now - RACE_SECONDS))

    def _least(self, name: str) -> int:
        """Return how many must be ready: less the one that a rollout may have away."""
        world, rows = self.world, self.world.store.rows
        stored, rollout = rows.deployments[name], rows.rollouts.get(name)
        least = stored.deployment.scaling.min_replicas
        asked_at, before = world.least_before.get(name, (-RACE_SECONDS, least))
        if world.now - asked_at < RACE_SECONDS:
            least = min(least, before)
        rolls = rollout is None or rollout.stage is not Stage.COMPLETE
        return least - (stored.deployment.rollout.max_unavailable if rolls else 0)

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


class I8AbsenceDecidesNothing:
    """No plane is lost by silence alone, nor does a state forget what runs.

    Nor by the word of peers that had seen nothing of it long before it fell silent.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.blind_at: dict[tuple[str, str], float] = {}  # witness, subject: saw nothing serve
        self.saw_at: dict[tuple[str, str], float] = {}  # saw something serve
        self.served_at: dict[str, float] = {}  # something, while the leader heard it
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            plane.holder.on_accept.append(partial(self.accepted, plane))
            plane.on_action.append(self.acted)
        self._look()

    def _look(self) -> None:
        """Note who could see whom serve, independently of anybody's report."""
        world = self.world
        reign = world.leader.reign if world.leader is not None else None
        heard_at = reign.heard_at if reign is not None else {}
        for plane in world.planes.values():
            if plane.serves and world.now - heard_at.get(plane.name, -1e9) <= HEARD_SECONDS:
                self.served_at[plane.name] = world.now
            for other in plane.others:
                if not (plane.powered and plane.sees(other) and other.serves):
                    self.blind_at[plane.name, other.name] = world.now
                else:
                    self.saw_at[plane.name, other.name] = world.now
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
        heard_at = leader.reign.heard_at.get(entry.subject)
        if heard_at is None:
            return  # in no time of this leader's: only what is stored tells when
        # Its replicas may have ended before it fell silent, which it told of itself.
        served_at = min(heard_at, self.served_at.get(entry.subject, -1e9))
        begin = served_at - policy.lease_seconds - SIGHT_SECONDS - SURELY_SECONDS
        saw = [n for n in others if self.saw_at.get((n, entry.subject), -1e9) >= begin]
        if len(saw) < min(policy.witnesses_min, len(others)):
            fail(world, "I8", f"{entry.subject} is lost, and only {saw} saw it serve till then")

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
        if entry.kind == "database.restored":
            self._moved.clear()  # it does not know of them
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


class I11OneEffectForARequest:
    """A call that is repeated under its request id changes something once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._done: dict[str, float] = {}
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Count effects by request id; a database forgets those after its backup."""
        if isinstance(told, Backup):
            self._done = {one: at for one, at in self._done.items() if at <= told.at}
        if entry.request_id and entry.request_id in self._done:
            fail(self.world, "I11", f"{entry.kind} of {entry.subject} was done twice")
        self._done[entry.request_id] = entry.at


class I12NothingOlderIsTold:
    """What a plane is told is above all that it durably had, also by a database that forgot.

    So nothing is decided either while a plane that the leader's last look showed holds more than
    the database knows. What became durable after its plane was greeted is told in a moment.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._took_at: dict[str, float] = {}
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            plane.holder.on_accept.append(self.accepted)

    def accepted(self, state: DesiredState) -> None:
        """Remember when a plane took up its newest state."""
        self._took_at[state.plane] = self.world.now

    def stored(self, entry: Entry, told: object) -> None:
        """Compare with what the disks of linked planes hold."""
        if entry.kind not in ("desired.stored", "placements.decided"):
            return
        world, leader = self.world, self.world.leader
        if leader is None or leader.reign is None:
            return
        desired, looked_at = world.store.rows.desired, leader.reign.door.looked_at
        for name, link in leader.reign.links.items():
            seen = world.planes[name].holder.seen
            stored = desired.get(name)
            known = stored.version if stored else NEVER
            if name == entry.subject:
                before = cast(Desires, told)[0]
                known = before.version if before else NEVER
            took_at = self._took_at.get(name, -RACE_SECONDS)
            if link.since >= looked_at or took_at >= max(link.since, looked_at - RACE_SECONDS):
                continue
            if seen.generation > known.generation:
                fail(world, "I12", f"{entry.kind} {entry.subject} while {name} holds {seen}")
            if seen.epoch > entry.epoch:
                fail(world, "I12", f"{entry.kind} {entry.subject} while {name} has seen {seen}")


class G7PoisonStaysOnOnePlane:
    """A revision of which nothing ever was READY goes to one plane in reach and no further.

    What a database forgot is excused: it goes by what the planes that it hears are told.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._allowed: dict[str, set[tuple[str, int]]] = {}  # by plane: poison that it may run
        self._forgot = False
        world.store.watchers.append(self.stored)

    def stored(self, entry: Entry, told: object) -> None:
        """Look at how far a rollout went, and at what each plane is told."""
        self._forgot = self._forgot or entry.kind == "database.restored"
        if self._forgot:
            return
        if isinstance(told, Rollout):
            revision = self.world.store.rows.revisions[told.deployment][told.revision]
            over = told.stage in (Stage.ROLLING, Stage.COMPLETE) and told.stable != 0
            if over and _is_deadly(revision) and "nothing of it runs" not in told.reason:
                text = f"{told.deployment} r{told.revision} is {told.state}, never READY"
                fail(self.world, "G7", text)
        if entry.kind != "desired.stored":
            return
        after = cast(Desires, told)[1]
        state = decoded(after.payload, after.version)
        mine = self._allowed[entry.subject] = {
            (assignment.deployment.name, revision.number)
            for assignment in state.assignments
            for revision in assignment.revisions
            if assignment.envelopes and not assignment.tombstone and _is_deadly(revision)
        }
        for key in mine:
            if len(self._who(key)) > 1:  # who had it first may be told in a moment
                self.world.timeline.after(3.0, partial(self._look, key, self._who(key)))

    def _who(self, key: tuple[str, int]) -> set[str]:
        """Return the planes in reach that may run the revision."""
        conditions = self.world.conditions()
        return {
            name
            for name, allowed in self._allowed.items()
            if key in allowed
            and name in conditions
            and conditions[name].state is PlaneState.CONNECTED
            and any(e.target and e.deployment == key[0] for e in self._envelopes(name))
        }

    def _envelopes(self, plane: str) -> tuple[Envelope, ...]:
        stored = self.world.store.rows.desired.get(plane)
        return tuple(stored.envelopes or ()) if stored else ()

    def _look(self, key: tuple[str, int], then: set[str]) -> None:
        both = self._who(key) & then
        leads = self.world.leader is not None and not self.world.store.down
        if len(both) > 1 and leads and not self._forgot:
            fail(self.world, "G7", f"{sorted(both)} may both run {key[0]} r{key[1]}, never READY")


def _is_deadly(revision: Revision) -> bool:
    return poison_of(revision.engine) in (START, HANG)
