"""A small fleet for tests of rollouts: what decides is real on both sides, engines are numbers.

Each step is a second: the control plane looks and tells, every plane it reaches converges.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count

from control_plane.reconcile.actions import PushDesired
from control_plane.reconcile.plan import plan_desired
from control_plane.reconcile.rollout import plan_rollouts
from control_plane.reconcile.snapshot import Demand, PlaneView, Snapshot
from skerry.fleet.deployment import Revision
from skerry.fleet.desired import FEATURES, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import (
    UNKNOWN,
    ObservedReplica,
    PlaneCondition,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.placement import Envelope
from skerry.fleet.rollout import Halt, Rollout, RolloutPolicy, Stage
from tests.builders import T0, a_deployment, a_plane_view, a_report, a_shape, a_snapshot
from workload_plane.converge.actions import (
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    ReviveReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import (
    Observed,
    SeenPool,
    SeenReplica,
    StartBackoff,
    after_failure,
)

POLICY = RolloutPolicy(soak_seconds=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a revision's engines do: load so long, then serve, or end after so long."""

    load_seconds: float = 3.0
    fails_at_start: bool = False
    serves_seconds: float | None = None  # ends by itself after it; None: never


@dataclass(slots=True, kw_only=True)
class Plane:
    """One plane: what it holds and was told, on `accelerators` of one each."""

    name: str
    accelerators: int = 8
    features: tuple[str, ...] = FEATURES
    state: PlaneState = PlaneState.CONNECTED
    told: DesiredState | None = None
    replicas: dict[str, SeenReplica] = field(default_factory=dict)
    backoffs: dict[int, StartBackoff] = field(default_factory=dict)
    harmed: set[str] = field(default_factory=set)  # replicas whose engine ended by itself

    @property
    def pool(self) -> str:
        return f"{self.name}--cpu"

    def ready(self, *revisions: int) -> int:
        return sum(
            one.state is ReplicaState.READY and (not revisions or one.revision in revisions)
            for one in self.replicas.values()
        )

    def live(self, *revisions: int) -> int:
        dead = (ReplicaState.FAILED, ReplicaState.DRAINING)
        return sum(
            one.state not in dead and (not revisions or one.revision in revisions)
            for one in self.replicas.values()
        )


class World:
    """A fleet with one deployment, `demo`, whose targets by plane the test chooses."""

    def __init__(
        self, targets: Mapping[str, int], *, policy: RolloutPolicy = POLICY, accelerators: int = 8
    ) -> None:
        self.planes = {name: Plane(name=name, accelerators=accelerators) for name in targets}
        self.targets = dict(targets)
        self.deployment = a_deployment(replicas=sum(targets.values()), rollout=policy)
        self.revisions: dict[int, Revision] = {1: self.deployment.revision}
        self.behaviours: dict[int, Behaviour] = {}
        self.rollout: Rollout | None = None
        self.stored: dict[str, DesiredState] = {}
        self.log: list[tuple[float, Rollout]] = []
        self.conditions: dict[str, PlaneCondition] = {}
        self.seconds = 0.0
        self._names = count()

    def apply(self, number: int, behaviour: Behaviour | None = None, **changes: object) -> None:
        """Make a revision the present one, as an operator does."""
        revision = replace(self.deployment.revision, number=number, **changes)  # type: ignore[arg-type]
        self.revisions.setdefault(number, revision)
        self.deployment = replace(self.deployment, revision=self.revisions[number])
        self.behaviours.setdefault(number, behaviour or Behaviour())

    @property
    def ready(self) -> int:
        return sum(plane.ready() for plane in self.planes.values())

    def ready_of(self, revision: int) -> dict[str, int]:
        return {name: plane.ready(revision) for name, plane in self.planes.items()}

    @property
    def stage(self) -> Stage | None:
        return self.rollout.stage if self.rollout else None

    @property
    def halt(self) -> Halt | None:
        return self.rollout.halt if self.rollout else None

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        for _ in range(int(seconds)):
            self.step()

    def run_until(self, stage: Stage, seconds_max: float = 300.0) -> None:
        """Let time pass until the rollout is at that stage."""
        for _ in range(int(seconds_max)):
            if self.stage is stage:
                return
            self.step()
        raise AssertionError(f"still {self.rollout} after {seconds_max} s")

    def step(self) -> None:
        """Let one second pass."""
        self.seconds += 1.0
        self._control()
        for plane in self.planes.values():
            if plane.state is not PlaneState.LOST:
                self._converge(plane)
                self._engines(plane)

    def _control(self) -> None:
        snapshot = self.snapshot()
        for name, plane in self.planes.items():
            known = self.conditions.get(name)
            if known is None or known.state is not plane.state:
                since = T0 + timedelta(seconds=self.seconds)
                self.conditions[name] = PlaneCondition(state=plane.state, since=since)
        conditions = self.conditions
        for rollout in plan_rollouts(snapshot, conditions):
            self.rollout = rollout
            self.log.append((self.seconds, rollout))
        snapshot = replace(snapshot, rollouts=(self.rollout,) if self.rollout else ())
        for action in plan_desired(snapshot, conditions):
            assert isinstance(action, PushDesired)
            version = Version(epoch=1, generation=action.expected_generation + 1)
            state = replace(action.desired, version=version)
            self.stored[state.plane] = state
        for name, state in self.stored.items():
            if self.planes[name].state is PlaneState.CONNECTED:
                assert set(state.required_features) <= set(self.planes[name].features)
                self.planes[name].told = state

    def snapshot(self) -> Snapshot:
        """What the control plane sees now."""
        effective, back = self.deployment, self.rollout
        asked = effective.revision.number
        if back and back.stage is Stage.ROLLED_BACK and back.revision == asked:
            effective = replace(effective, revision=self.revisions[back.stable])
        demand = Demand(deployment=effective, asked_revision=asked)
        return replace(
            a_snapshot(*(self._view(plane) for plane in self.planes.values())),
            now=T0 + timedelta(seconds=self.seconds),
            demands=(demand,),
            envelopes=tuple(
                Envelope(deployment="demo", pool=f"{name}--cpu", floor=n, target=n, ceiling=n)
                for name, n in self.targets.items()
                if n
            ),
            desired=tuple(self.stored[name] for name in sorted(self.stored)),
            rollouts=(self.rollout,) if self.rollout else (),
            revisions={"demo": self.revisions},
        )

    def _view(self, plane: Plane) -> PlaneView:
        report = a_report(
            plane.name,
            pools=(a_shape(accelerators_per_node=plane.accelerators),),
            held=plane.told.version if plane.told else Version(epoch=0, generation=0),
            replicas=tuple(_observed(one) for one in plane.replicas.values()),
            features=plane.features,
        )
        heard = plane.state is PlaneState.CONNECTED
        return a_plane_view(plane.name, state=plane.state, connected=heard, report=report)

    def _converge(self, plane: Plane) -> None:
        pool = SeenPool(name=plane.pool, accelerator="cpu", accelerators=plane.accelerators)
        observed = Observed(
            replicas=tuple(plane.replicas.values()),
            pools=(pool,),
            backoffs=tuple(plane.backoffs.values()),
        )
        for action in plan(plane.told or UNKNOWN, observed, self.seconds):
            match action:
                case StartReplica():
                    if action.replaces is not None:
                        del plane.replicas[action.replaces]
                    name = f"demo-r{action.revision}-{next(self._names)}"
                    plane.replicas[name] = SeenReplica(
                        name=name,
                        deployment="demo",
                        revision=action.revision,
                        pool=plane.pool,
                        state=ReplicaState.STARTING,
                        started_at=self.seconds,
                        restarts=action.restarts,
                        failures=action.failures,
                    )
                case DrainReplica():
                    seen = plane.replicas[action.name]
                    plane.replicas[action.name] = replace(
                        seen,
                        state=ReplicaState.DRAINING,
                        draining_since=self.seconds,
                        in_flight=0,
                    )
                case ReviveReplica():
                    plane.replicas[action.name] = replace(
                        plane.replicas[action.name], state=ReplicaState.READY, draining_since=None
                    )
                case FenceReplica():
                    seen = plane.replicas[action.name]
                    plane.replicas[action.name] = replace(
                        seen, state=ReplicaState.FAILED, fault="exit 1"
                    )
                    before = plane.backoffs.get(
                        seen.revision, StartBackoff(deployment="demo", revision=seen.revision)
                    )
                    plane.backoffs[seen.revision] = after_failure(before, None, self.seconds)
                case StopReplica() | ForgetReplica():
                    del plane.replicas[action.name]
        used = sum(one.state is not ReplicaState.FAILED for one in plane.replicas.values())
        assert used <= plane.accelerators, "I1"

    def _engines(self, plane: Plane) -> None:
        for name, one in list(plane.replicas.items()):
            does = self.behaviours.get(one.revision, Behaviour())
            age = self.seconds - one.started_at
            if one.state is ReplicaState.STARTING and one.alive:
                if does.fails_at_start and age >= 1.0:
                    plane.replicas[name] = replace(one, alive=False)
                    plane.harmed.add(name)
                elif not does.fails_at_start and age >= does.load_seconds:
                    plane.replicas[name] = replace(
                        one, state=ReplicaState.READY, routable=True, ready_at=self.seconds
                    )
            elif one.state is ReplicaState.READY and does.serves_seconds is not None:
                assert one.ready_at is not None
                if self.seconds - one.ready_at >= does.serves_seconds:
                    plane.replicas[name] = replace(one, alive=False)
                    plane.harmed.add(name)


def _observed(one: SeenReplica) -> ObservedReplica:
    return ObservedReplica(
        name=one.name,
        deployment=one.deployment,
        revision=one.revision,
        pool=one.pool,
        state=one.state,
        restarts=one.restarts,
        failures=one.failures,
        message=one.fault,
        engine_pid=1,
    )


def serving(targets: Mapping[str, int], **fields: object) -> World:
    """A world in which revision 1 serves everywhere."""
    world = World(targets, **fields)  # type: ignore[arg-type]
    world.run_until(Stage.COMPLETE)
    world.run(20)
    assert world.ready_of(1) == dict(targets)
    return world
