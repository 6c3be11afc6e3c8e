"""A seeded world: one control plane and its planes in virtual time, with the real deciding code.

Faults come from the seed; checkers.py watches. Everything that decides is the product's own:
failover, placement problem, solver, envelopes, desired states, acceptance and convergence. What is
simulated is the rest: processes, links with delay and reordering, disks, health checks.
"""

import hashlib
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta

from control_plane.reconcile.actions import PushDesired, RaiseGeneration, SetCondition
from control_plane.reconcile.failover import is_frozen, judge
from control_plane.reconcile.memory import Decided, fingerprint
from control_plane.reconcile.plan import plan_conditions, plan_desired
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Demand, LinkView, PlaneView, Snapshot
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import FailureDomain, PlacementPolicy, Scaling, Spread
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import (
    UNKNOWN,
    ObservedReplica,
    PeerVerdict,
    PeerView,
    PlaneCondition,
    PlaneReport,
    ReplicaState,
)
from skerry.fleet.placement import Placement
from tests.builders import T0, a_deployment, a_pool, a_report
from workload_plane.converge import plan as converge
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica
from workload_plane.desired_state import accept

STEP_SECONDS = 0.5
FAULTS_SECONDS = 180.0
CALM_SECONDS = 90.0  # faults are over: everything must be in order again by then
START_SECONDS = 3.0  # from the start of a replica until it is READY
HEALTH_CHECK_SECONDS = 2.0  # what a peer sees is that old
DELAY_SECONDS_MAX = 1.5  # of a push; pushes may overtake one another
PLANES = ("aws", "fra", "gcp", "oci")
PRICES = {"aws": 0.4, "fra": 0.1, "gcp": 0.3, "oci": 0.5}
LIMITS = SolveLimits(deterministic_time_max=0.05)  # eight columns: a few milliseconds each


@dataclass(slots=True)
class SimPlane:
    """A plane's disk, processes and link."""

    name: str
    alive: bool = True
    agent_alive: bool = True
    linked: bool = True  # the network to the control plane
    disk: DesiredState | None = None
    seen: Version = NEVER
    replicas: dict[str, SeenReplica] = field(default_factory=dict)
    serial: int = 0

    @property
    def converges(self) -> bool:
        """Say whether the agent is there to act."""
        return self.alive and self.agent_alive

    @property
    def talks(self) -> bool:
        """Say whether the control plane can hear it."""
        return self.converges and self.linked

    def serving(self, deployment: str) -> list[SeenReplica]:
        """The replicas whose users get answers."""
        return [r for r in self.replicas.values() if r.deployment == deployment and r.is_serving]


@dataclass(slots=True)
class SimControl:
    """The control plane: its database survives, the rest is of one run."""

    alive: bool = True
    epoch: int = 1
    started_at: float = 0.0
    conditions: dict[str, PlaneCondition] = field(default_factory=dict)
    placements: tuple[Placement, ...] = ()
    desired: dict[str, DesiredState] = field(default_factory=dict)
    decided: Decided | None = None
    reports: dict[str, PlaneReport] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)
    sent: dict[str, Version] = field(default_factory=dict)


class World:
    """Everything there is, and its history."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.planes = {name: SimPlane(name=name) for name in PLANES}
        self.control = SimControl()
        spread = Spread(domain=FailureDomain.PLANE, domains_min=3)
        self.demands = (
            Demand(
                deployment=a_deployment(
                    policy=PlacementPolicy(spread=spread),
                    scaling=Scaling(min_replicas=5, max_replicas=8),
                )
            ),
            Demand(deployment=a_deployment("side", replicas=2)),
        )
        self.pools = tuple(a_pool(name, price=PRICES[name]) for name in PLANES)
        self.views: list[tuple[float, dict[str, PeerVerdict]]] = []
        self.pushes: list[tuple[float, str, DesiredState]] = []
        self.last_fault_at = 0.0
        self.acted: list[tuple[float, str, object]] = []
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """A hash of everything that was done, for comparing two runs."""
        return self._trace.hexdigest()

    def note(self, plane: str, action: object) -> None:
        """Remember an action for the checkers and the trace."""
        self.acted.append((self.now, plane, action))
        self._trace.update(f"{self.now} {plane} {action!r}".encode())

    def change_prices(self) -> None:
        """An operator's change: the same prices, on other pools."""
        prices = list(PRICES.values())
        self.random.shuffle(prices)
        named = zip(PLANES, prices, strict=True)
        self.pools = tuple(a_pool(name, price=price) for name, price in named)
        self.note("operator", tuple(prices))

    def step(self) -> None:
        """Let half a second pass."""
        self.now += STEP_SECONDS
        self.acted.clear()
        self._mature()
        self._look_around()
        self._deliver()
        for plane in self.planes.values():
            if plane.converges:
                self._converge(plane)
        if self.control.alive:
            self._listen()
            self._reconcile()

    def _mature(self) -> None:
        """Replicas that were started become READY."""
        for plane in self.planes.values():
            for name, replica in plane.replicas.items():
                age = self.now - replica.started_at
                if replica.state is ReplicaState.STARTING and replica.alive and age > START_SECONDS:
                    plane.replicas[name] = replace(
                        replica, state=ReplicaState.READY, routable=True, ready_at=self.now
                    )

    def _look_around(self) -> None:
        """What peers' health checks see now; they report it later."""
        sights = {}
        for plane in self.planes.values():
            serves = any(r.is_serving for r in plane.replicas.values())
            sights[plane.name] = (
                PeerVerdict.UNREACHABLE
                if not plane.alive
                else PeerVerdict.SERVING
                if serves
                else PeerVerdict.REACHABLE
            )
        self.views.append((self.now, sights))
        self.views = [v for v in self.views if v[0] >= self.now - HEALTH_CHECK_SECONDS]

    def _deliver(self) -> None:
        """Hand over the pushes whose time has come, in whatever order the network likes."""
        due = [push for push in self.pushes if push[0] <= self.now]
        self.pushes = [push for push in self.pushes if push[0] > self.now]
        for _, name, state in due:
            plane = self.planes[name]
            if not plane.talks:
                continue
            running = frozenset(
                (r.deployment, r.pool)
                for r in plane.replicas.values()
                if r.state is not ReplicaState.FAILED
            )
            held = accept.Held(plane=name, state=plane.disk, seen=plane.seen, running=running)
            verdict = accept.decide(state, held)
            if isinstance(verdict, accept.Accept):
                plane.disk, plane.seen = state, max(plane.seen, state.version)
            self.note(name, type(verdict).__name__)

    def _converge(self, plane: SimPlane) -> None:
        observed = Observed(
            replicas=tuple(plane.replicas[name] for name in sorted(plane.replicas)),
            pools=(SeenPool(name=f"{plane.name}--cpu", accelerator="cpu", accelerators=4),),
        )
        for action in converge.plan(plane.disk or UNKNOWN, observed, self.now):
            self.note(plane.name, action)
            self._apply(plane, action)

    def _apply(self, plane: SimPlane, action: Action) -> None:
        if isinstance(action, StartReplica):
            plane.serial += 1
            name = f"{action.deployment}-{plane.name}-{plane.serial}"
            plane.replicas.pop(action.replaces or "", None)
            plane.replicas[name] = SeenReplica(
                name=name,
                deployment=action.deployment,
                revision=action.revision,
                pool=action.pool,
                state=ReplicaState.STARTING,
                started_at=self.now,
            )
        elif isinstance(action, DrainReplica):
            plane.replicas[action.name] = replace(
                plane.replicas[action.name],
                state=ReplicaState.DRAINING,
                draining_since=self.now,
                in_flight=0,
            )
        elif isinstance(action, FenceReplica):
            plane.replicas[action.name] = replace(
                plane.replicas[action.name], state=ReplicaState.FAILED, alive=False
            )
        elif isinstance(action, StopReplica | ForgetReplica):
            plane.replicas.pop(action.name, None)

    def _listen(self) -> None:
        """Take in the reports of the planes that talk; the others fall silent."""
        control = self.control
        sights = self.views[0][1]
        for plane in self.planes.values():
            if not plane.talks:
                control.sent.pop(plane.name, None)  # the stream broke: push again when it is back
                continue
            views = tuple(
                PeerView(plane=name, verdict=verdict)
                for name, verdict in sights.items()
                if name != plane.name
            )
            control.heard_at[plane.name] = self.now
            control.reports[plane.name] = a_report(
                plane.name,
                held=plane.disk.version if plane.disk else NEVER,
                peers=views,
                replicas=tuple(
                    ObservedReplica(
                        name=r.name,
                        deployment=r.deployment,
                        revision=r.revision,
                        pool=r.pool,
                        state=r.state,
                    )
                    for r in plane.replicas.values()
                ),
            )

    def snapshot(self) -> Snapshot:
        """What the control plane knows."""
        control = self.control
        views = []
        for name in PLANES:
            heard = control.heard_at.get(name, control.started_at)
            views.append(
                PlaneView(
                    identity=a_pool(name).plane,
                    gateway=a_report(name).gateway,
                    shapes=a_report(name).pools,
                    condition=control.conditions.get(name),
                    link=LinkView(
                        connected=self.planes[name].talks and name in control.reports,
                        silent_seconds=self.now - heard,
                        report=control.reports.get(name),
                    ),
                )
            )
        return Snapshot(
            now=T0 + timedelta(seconds=self.now),
            since_start_seconds=self.now - control.started_at,
            demands=self.demands,
            planes=tuple(views),
            pools=self.pools,
            placements=control.placements,
            desired=tuple(control.desired[name] for name in sorted(control.desired)),
        )

    def _reconcile(self) -> None:
        """One turn of the loop, as control_plane.reconcile.loop does it."""
        control = self.control
        snapshot = self.snapshot()
        conditions = judge(snapshot)
        for action in plan_conditions(snapshot, conditions):
            if isinstance(action, SetCondition):
                self.note("control", action)
                control.conditions[action.plane] = action.condition
        if snapshot.is_waiting if control.decided is None else is_frozen(snapshot):
            return
        seen = fingerprint(snapshot, conditions)
        if control.decided is None or control.decided.fingerprint != seen:
            plan = solve(placement_problem(snapshot, conditions), LIMITS)
            self.note("control", plan.placements)
            control.placements = plan.placements
            control.decided = Decided(fingerprint=seen, plan=plan)
        snapshot = replace(
            self.snapshot(), envelopes=control.decided.plan.envelopes, now=snapshot.now
        )
        for act in plan_desired(snapshot, conditions):
            self.note("control", type(act).__name__)
            if isinstance(act, PushDesired):
                version = Version(epoch=control.epoch, generation=act.expected_generation + 1)
                state = replace(act.desired, version=version)
                control.desired[state.plane] = state
            elif isinstance(act, RaiseGeneration):
                held = control.desired[act.plane]
                version = Version(epoch=control.epoch, generation=act.at_least)
                control.desired[act.plane] = replace(held, version=version)
        self._push()

    def _push(self) -> None:
        control = self.control
        for name, state in control.desired.items():
            version = Version(epoch=control.epoch, generation=state.version.generation)
            if self.planes[name].talks and control.sent.get(name) != version:
                control.sent[name] = version
                at = self.now + self.random.uniform(0.0, DELAY_SECONDS_MAX)
                self.pushes.append((at, name, replace(state, version=version)))
