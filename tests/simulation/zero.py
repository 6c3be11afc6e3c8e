"""What must hold where nothing runs, and before the last replica goes: S6.

Watched where worlds are loaded by users, by what they really sent. That order returns after the
faults says that somebody answers in the end; here it is who starts a replica, and how soon.
"""

from skerry.fleet.desired import Assignment
from skerry.fleet.observation import ReplicaState, Unknown
from tests.simulation.breaches import fail
from tests.simulation.fleets import DELAY_SECONDS, poison_of
from tests.simulation.plane import IDLE_SECONDS, SimPlane
from tests.simulation.users import TICK_SECONDS, Gateway
from tests.simulation.world import World
from workload_plane.converge.actions import Action, DrainReplica, StopReplica
from workload_plane.picker.demand_watch import SILENT_SECONDS_MAX

LOOK_SECONDS = 1.0
# Well before the plane's own loop turns, which would start one as well: a look after a fault and
# one here.
WAKES_SECONDS = 2.5
LIVE = (ReplicaState.STARTING, ReplicaState.READY)


class S6NobodyWaitsForNothing:
    """Where nothing runs, a request has a replica started at once, whoever is away.

    And the last one that runs goes only where users are known to be gone for a whole delay: not
    while they ask or wait, and for nobody's silence.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._held_since: dict[tuple[str, str], float] = {}
        if not world.users:
            return
        for plane in world.planes.values():
            plane.on_action.append(self.acted)
        self._look()

    def _look(self) -> None:
        world = self.world
        for plane in world.planes.values():
            for name in world.fleet.loaded:
                since = self._held_since.pop((plane.name, name), world.now)
                if not self._is_held_up(plane, name):
                    continue
                self._held_since[plane.name, name] = since
                if world.now - since > WAKES_SECONDS:
                    waiting = world.users[plane.name].waiting(name)
                    text = f"{plane.name} starts nothing since {since:.2f} s"
                    fail(world, "S6", f"{text}, and {waiting} wait for {name}")
        world.timeline.after(LOOK_SECONDS, self._look)

    def _is_held_up(self, plane: SimPlane, name: str) -> bool:
        """Say whether users wait for what does not run here, and could.

        It may where a grant allows it, a node is free, the agent and its picker live, and its
        revisions are none that fail.
        """
        users, state = self.world.users[plane.name], plane.holder.state
        if not (plane.agent.runs and users.waiting(name)) or users.is_silent:
            return False
        if isinstance(state, Unknown) or any(r.deployment == name for r in plane.replicas.values()):
            return False
        one = _assignment(plane, name)
        if one is None or one.tombstone or any(poison_of(r.engine) for r in one.revisions):
            return False
        cordoned = {cordon.node for cordon in state.node_cordons}
        taken = {node for replica in plane.replicas.values() for node in replica.nodes}
        is_free = bool(set(plane.nodes) - taken - cordoned)
        return is_free and _ceiling(plane, name) > 0

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Look at each end of a last one for which there is no target."""
        if not isinstance(action, DrainReplica | StopReplica):
            return
        if action.reason != "the target is 0":
            return
        name = action.name.removesuffix(f"-{plane.name}-{action.name.rpartition('-')[2]}")
        live = [r for r in plane.replicas.values() if r.state in LIVE and r.deployment == name]
        if live or name not in self.world.fleet.loaded or not _ceiling(plane, name):
            return
        world, users = self.world, self.world.users[plane.name]
        text = f"{plane.name} ends its last {name}"
        if world.now - users.written_at > SILENT_SECONDS_MAX + TICK_SECONDS:
            fail(world, "S6", f"{text}, told nothing by its picker since {users.written_at:.2f} s")
        if users.waiting(name) and world.now - users.written_at < TICK_SECONDS:
            fail(world, "S6", f"{text} while {users.waiting(name)} wait")
        if world.now - users.asked_at(name) < DELAY_SECONDS - TICK_SECONDS:
            fail(world, "S6", f"{text}, asked for at {users.asked_at(name):.2f} s")


def is_kept(plane: SimPlane, users: Gateway, name: str) -> bool:
    """Say whether the one replica that nobody wants is there because users ask for it here."""
    since = plane.clock.monotonic() - users.asked_at(name)
    return len(plane.serving(name)) == 1 and since < DELAY_SECONDS + TICK_SECONDS + IDLE_SECONDS


def sleeping(world: World) -> tuple[SimPlane, str] | None:
    """Return a plane that may start what runs nowhere and nobody asks for; None without one."""
    for name in world.fleet.loaded:
        if any(users.rate(name) for users in world.users.values()):
            continue
        planes = world.planes.values()
        if any(r.deployment == name for plane in planes for r in plane.replicas.values()):
            continue
        for plane in planes:
            if _ceiling(plane, name) and len(plane.replicas) < len(plane.nodes):
                return plane, name
    return None


def _assignment(plane: SimPlane, name: str) -> Assignment | None:
    state = plane.holder.state
    of = () if isinstance(state, Unknown) else state.assignments
    return next((one for one in of if one.deployment.name == name), None)


def _ceiling(plane: SimPlane, name: str) -> int:
    one = _assignment(plane, name)
    return sum(envelope.ceiling for envelope in one.envelopes) if one is not None else 0
