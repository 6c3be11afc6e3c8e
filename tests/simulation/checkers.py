"""What must hold in the simulated world, in every step; apart from the code that is watched."""

from control_plane.reconcile.actions import SetCondition
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneState, ReplicaState
from tests.simulation.world import HEALTH_CHECK_SECONDS, World
from workload_plane.converge.actions import DrainReplica, StopReplica

# A replica that fails between the report that it is READY and the drain it allowed: nobody's fault.
RACE_SECONDS = 4.0


class Broken(AssertionError):
    """A safety statement that did not hold."""


class Checkers:
    """Remembers what it needs between steps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._seen: dict[str, Version] = {}
        self._served_at: dict[str, float] = {}
        self._recovered_at = -RACE_SECONDS

    def before(self) -> None:
        """Note who serves before the step."""
        for plane in self.world.planes.values():
            if plane.alive and any(r.is_serving for r in plane.replicas.values()):
                self._served_at[plane.name] = self.world.now

    def after(self) -> None:
        """Raise Broken if the step broke a promise."""
        self._pools_are_never_overfull()
        self._planes_never_go_back()
        self._a_plane_that_serves_is_never_lost()
        self._nothing_is_drained_before_its_replacement_is_ready()
        self._ceilings_stay_within_the_maximum()

    def _fail(self, text: str) -> None:
        raise Broken(f"seed {self.world.seed} at {self.world.now} s: {text}")

    def _pools_are_never_overfull(self) -> None:
        for plane in self.world.planes.values():
            used = sum(1 for r in plane.replicas.values() if r.state is not ReplicaState.FAILED)
            if used > 4:
                self._fail(f"{plane.name} runs {used} replicas on 4 accelerators")

    def _planes_never_go_back(self) -> None:
        for plane in self.world.planes.values():
            version = plane.disk.version if plane.disk else None
            before = self._seen.get(plane.name)
            if version is not None:
                if before is not None and version < before:
                    self._fail(f"{plane.name} went from {before} back to {version}")
                self._seen[plane.name] = version

    def _a_plane_that_serves_is_never_lost(self) -> None:
        for now, _, action in self.world.acted:
            if isinstance(action, SetCondition) and action.condition.state is PlaneState.LOST:
                served = self._served_at.get(action.plane, -1e9)
                plane = self.world.planes[action.plane]
                since = now - served
                if (
                    plane.alive
                    and since <= 2 * HEALTH_CHECK_SECONDS
                    and self._served_long(plane.name)
                ):
                    self._fail(f"{action.plane} was declared lost while it served")

    def _served_long(self, name: str) -> bool:
        """Say whether peers' views of the plane were SERVING all the while they are old."""
        return all(view[1][name].value == "serving" for view in self.world.views)

    def _nothing_is_drained_before_its_replacement_is_ready(self) -> None:
        if self.world.now - self.world.last_fault_at < RACE_SECONDS:
            return
        decided = self.world.control.decided
        if decided is None or decided.plan.unplaced:
            return  # capacity is short: what is shed then is the solver's decision
        wanted = {d.deployment.name: d.deployment.scaling.min_replicas for d in self.world.demands}
        for _, _, action in self.world.acted:
            if not isinstance(action, DrainReplica | StopReplica):
                continue
            deployment = action.name.split("-")[0]
            serving = sum(len(p.serving(deployment)) for p in self.world.planes.values() if p.alive)
            if isinstance(action, DrainReplica) and serving < wanted[deployment]:
                self._fail(f"{action.name} was drained and only {serving} serve {deployment}")

    def _ceilings_stay_within_the_maximum(self) -> None:
        """The room above the targets on the disks of all planes that are not lost has a bound.

        Targets alone may exceed the maximum for the time of a move, which holds both ends; and a
        plane that was taken for lost may overshoot it by its own ceiling until it is reconciled.
        """
        conditions = self.world.control.conditions
        if any(c.state is PlaneState.RECOVERING for c in conditions.values()):
            self._recovered_at = self.world.now
        if self.world.now - self._recovered_at < RACE_SECONDS:
            return
        for demand in self.world.demands:
            name = demand.deployment.name
            envelopes = [
                envelope
                for plane in self.world.planes.values()
                if plane.disk is not None
                and plane.name in conditions
                and conditions[plane.name].state is not PlaneState.LOST
                for assignment in plane.disk.assignments
                for envelope in assignment.envelopes
                if envelope.deployment == name
            ]
            room = sum(envelope.ceiling - envelope.target for envelope in envelopes)
            most = demand.deployment.scaling.max_replicas - demand.deployment.scaling.min_replicas
            if room > most:
                self._fail(f"{name}: room for {room} more replicas, at most {most}")
