"""Planes that count load, seen by the global loop round by round: what it decides holds next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from control_plane.autoscale.rounds import Basis, Outcome, Rounds
from control_plane.autoscale.shares import Scene
from control_plane.autoscale.targets import scaled_envelopes
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Demand, Snapshot
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport, ToldDecision
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import Deployment, Scaling
from skerry.fleet.desired import FEATURES
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Envelope, Placement
from tests.builders import T0, a_deployment, a_plane_view, a_replica, a_report, a_snapshot

COSTS = Coefficients(
    accelerator="cpu",
    prefill_seconds_per_token=0.001,
    decode_seconds_per_token=0.001,
    iteration_seconds=0.01,
)
# A request of 100 tokens that answers 200 keeps a replica busy for so long.
REQUEST_SECONDS = 0.8
ROUND_SECONDS = 30.0


def scaling_deployment(least: int = 1, most: int = 8, **factors: Any) -> Deployment:
    """`demo`, between so many replicas."""
    scaling = replace(Scaling(min_replicas=least, max_replicas=most), **factors)
    return a_deployment(scaling=scaling)


@dataclass(slots=True)
class Fleet:
    """Planes by name with the ceiling that each is granted, the first with the floor."""

    deployment: Deployment
    ceilings: Mapping[str, int]
    measured: Mapping[str, tuple[Coefficients, ...]] = field(
        default_factory=lambda: {"demo": (COSTS,)}
    )
    running: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    uncounted: set[str] = field(default_factory=set)
    others: tuple[Demand, ...] = ()
    is_placed: bool = True
    also: tuple[Placement, ...] = ()  # of others
    also_granted: tuple[Envelope, ...] = ()  # with the targets that hold
    also_running: dict[str, int] = field(default_factory=dict)  # of `other`, by plane
    told: dict[str, ToldDecision] = field(default_factory=dict)
    costs: dict[str, tuple[Coefficients, ...]] = field(default_factory=dict)  # as planes learned
    queued: dict[str, float] = field(default_factory=dict)  # requests that wait, by plane
    rounds: Rounds = field(default_factory=Rounds)
    now: float = 1_000.0
    snapshot: Snapshot = field(init=False)
    requests: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Run the floor at the first plane."""
        first = next(iter(self.ceilings))
        self.running = dict.fromkeys(self.ceilings, 0) | self.running
        self.running[first] = max(self.running[first], self.deployment.scaling.min_replicas)
        self.snapshot = self.seen(())

    @property
    def placed(self) -> tuple[Placement, ...]:
        """What the scheduler placed: of `demo` the floor, at the first plane."""
        first, many = next(iter(self.ceilings)), max(1, self.deployment.scaling.min_replicas)
        if not self.is_placed:
            return self.also
        return (Placement(deployment="demo", pool=f"{first}--cpu", count=many), *self.also)

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """What the scheduler granted."""
        counts = {one.pool: one.count for one in self.placed if one.deployment == "demo"}
        return tuple(
            Envelope(
                deployment="demo",
                pool=f"{plane}--cpu",
                floor=counts.get(f"{plane}--cpu", 0),
                target=counts.get(f"{plane}--cpu", 0),
                ceiling=ceiling,
            )
            for plane, ceiling in self.ceilings.items()
        )

    def seen(self, scalings: tuple[Scaled, ...]) -> Snapshot:
        """The fleet as it is now."""
        views = []
        for plane in sorted(self.ceilings):
            replicas = tuple(
                a_replica(pool=f"{plane}--cpu", name=f"demo-{plane}-{n}")
                for n in range(self.running[plane])
            )
            replicas += tuple(
                a_replica("other", f"{plane}--cpu", name=f"other-{plane}-{n}")
                for n in range(self.also_running.get(plane, 0))
            )
            report = a_report(plane, features=FEATURES, replicas=replicas)
            state = PlaneState.SUSPECT if plane in self.silent else PlaneState.CONNECTED
            views.append(a_plane_view(plane, state=state, report=report))
        when = T0 + timedelta(seconds=self.now)
        demands = (Demand(deployment=self.deployment), *self.others)
        return replace(a_snapshot(*views, demands=demands, scalings=scalings), now=when)

    def round(self, rates: Mapping[str, float]) -> Outcome:
        """Let half a minute pass with so many requests a second at each plane, and decide."""
        held = self.snapshot.scalings
        loads: dict[str, LoadReport] = {}
        for _ in range(3):
            self.now += ROUND_SECONDS / 3
            loads = {}
            for plane in self.ceilings:
                rate = rates.get(plane, 0.0)
                self.requests[plane] = self.requests.get(plane, 0.0) + rate * ROUND_SECONDS / 3
                if plane in self.silent or plane in self.uncounted:
                    continue
                reading, decision = self.reading(plane, rate), self.told.get(plane)
                load = DeploymentLoad(
                    deployment="demo",
                    reading=reading,
                    decision=decision,
                    coefficients=self.costs.get(plane, ()),
                )
                loads[plane] = LoadReport(loads=(load,))
            self.rounds.hear(self.snapshot.demands, loads)
        self.snapshot = self.seen(held)
        snapshot = self.snapshot
        conditions = {p.name: p.condition for p in snapshot.planes if p.condition is not None}
        scene = Scene(
            snapshot=snapshot,
            conditions=conditions,
            envelopes=(*scaled_envelopes(self.envelopes, snapshot), *self.also_granted),
            loads=loads,
            measured=self.measured,
        )
        basis = Basis(
            scene=scene,
            starts={},
            placed=self.placed,
            problem=lambda: placement_problem(snapshot, conditions),
        )
        (outcome,) = self.rounds.decide(self.now, basis)
        self.snapshot = replace(snapshot, scalings=(outcome.scaled,))
        return outcome

    def obey(self) -> None:
        """Let every plane run its targets."""
        for one in scaled_envelopes(self.envelopes, self.snapshot):
            plane = one.pool.partition("--")[0]
            if plane not in self.silent:
                self.running[plane] = one.target

    def reading(self, plane: str, rate: float) -> LoadReading:
        """What a plane counted by now."""
        done, waiting = self.requests[plane], self.queued.get(plane, 0.0)
        return LoadReading(
            at=self.now,
            requests_total=done,
            prompt_tokens_total=done * 100.0,
            finished_total=done,
            output_tokens_total=done * 200.0,
            in_flight=rate * REQUEST_SECONDS + waiting,
            waiting_requests=waiting,
            waiting_prompt_tokens=waiting * 100.0,
        )
