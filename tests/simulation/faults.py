"""Faults of the simulated world: what breaks, when, and how it heals; all from the seed."""

from dataclasses import replace

from skerry.fleet.observation import ReplicaState
from tests.simulation.world import FAULTS_SECONDS, SimControl, SimPlane, World

# Once in so many seconds on average, each.
PERIODS_SECONDS = {
    "control": 60.0,
    "agent": 40.0,
    "replica": 20.0,
    "partition": 40.0,
    "plane": 90.0,
}
HEALS_SECONDS = (3.0, 45.0)
PRICES_CHANGE_SECONDS = 15.0  # no fault: an operator's change that makes replicas move


class Faults:
    """Breaks things while `now` is below FAULTS_SECONDS and heals each after its time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._healing: list[tuple[float, str, str]] = []

    def step(self) -> None:
        """Break or heal what is due before the world's next step."""
        world = self.world
        for due, kind, name in [h for h in self._healing if h[0] <= world.now]:
            self._heal(kind, name)
            self._healing.remove((due, kind, name))
        if world.now > FAULTS_SECONDS:
            for _, kind, name in self._healing:
                self._heal(kind, name)
            self._healing.clear()
            return
        for kind, period in PERIODS_SECONDS.items():
            if world.random.random() < 0.5 / period:
                name = world.random.choice(sorted(world.planes))
                name = "control" if kind == "control" else name
                if not any(h[1] == kind and h[2] == name for h in self._healing):
                    self._break(kind, name)
        if world.random.random() < 0.5 / PRICES_CHANGE_SECONDS:
            world.change_prices()

    def _break(self, kind: str, name: str) -> None:
        world, plane = self.world, self.world.planes.get(name, SimPlane(name=name))
        world.last_fault_at = world.now
        world.note(name, f"break {kind}")
        if kind == "replica":
            for replica_name in sorted(plane.replicas)[:1]:
                self._kill(name, replica_name)
            return
        if kind == "control":
            world.control.alive = False
        elif kind == "agent":
            plane.agent_alive = False
        elif kind == "partition":
            plane.linked = False
        elif kind == "plane":
            plane.alive = False
            for replica_name in sorted(plane.replicas):
                self._kill(name, replica_name)
        after = world.random.uniform(*HEALS_SECONDS)
        self._healing.append((world.now + after, kind, name))

    def _kill(self, plane: str, replica: str) -> None:
        replicas = self.world.planes[plane].replicas
        if replicas[replica].state is not ReplicaState.FAILED:
            replicas[replica] = replace(replicas[replica], alive=False, routable=False)

    def _heal(self, kind: str, name: str) -> None:
        world, plane = self.world, self.world.planes.get(name, SimPlane(name=name))
        world.last_fault_at = world.now
        world.note(name, f"heal {kind}")
        if kind == "control":
            before = world.control
            world.control = SimControl(
                epoch=before.epoch + 1,
                started_at=world.now,
                conditions=before.conditions,
                placements=before.placements,
                desired=before.desired,
            )
        elif kind == "agent":
            plane.agent_alive = True
        elif kind == "partition":
            plane.linked = True
        elif kind == "plane":
            plane.alive = True
