"""Whatever a candidate does to a plane that nobody tells anything: the earlier revision serves."""

import dataclasses
from dataclasses import dataclass
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.desired import Assignment, Candidate, DesiredState
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import Version
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.rollout import RolloutPolicy
from tests.properties.examples import examples
from workload_plane.converge.actions import DrainReplica, FenceReplica, ReviveReplica, StartReplica
from workload_plane.converge.grants import CANDIDATE_FAILURES_MAX
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import (
    SOUND_SECONDS,
    Observed,
    SeenPool,
    SeenReplica,
    StartBackoff,
    after_failure,
)

POOL = "here--cpu"
OLD, NEW = 1, 2
STEP_SECONDS = 2.0
STEPS = 150
LOADS_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """Of one replica of the candidate: ready or not, and after how long it ends; None: never."""

    comes_up: bool
    ends_after: float | None
    by_host: bool  # its host starts the engine again, so that the replica itself lives


FATES = st.builds(
    Fate,
    comes_up=st.booleans(),
    ends_after=st.sampled_from((None, 2.0, 9.0, 60.0)),
    by_host=st.booleans(),
)
ENDS = FATES.filter(lambda fate: fate.ends_after is not None or not fate.comes_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    target: int
    tried: int
    spare: int
    policy: RolloutPolicy
    fates: tuple[Fate, ...]


@st.composite
def cases(draw: st.DrawFn, fates: st.SearchStrategy[Fate]) -> Case:
    target = draw(st.integers(1, 4))
    return Case(
        target=target,
        tried=draw(st.integers(1, target)),
        spare=draw(st.integers(0, 2)),
        policy=RolloutPolicy(
            max_surge=draw(st.integers(1, 2)), max_unavailable=draw(st.integers(0, 2))
        ),
        fates=tuple(draw(st.lists(fates, min_size=1, max_size=6))),
    )


class Plane:
    """One pool, its engines, and what its records keep: at first only the earlier revision."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.now = 10_000.0
        self.starts = 0
        self.replicas: dict[str, SeenReplica] = {}
        self.backoffs: dict[int, StartBackoff] = {}
        self.fates: dict[str, Fate] = {}
        self._names = count()
        for _ in range(case.target):
            self._add(OLD, state=ReplicaState.READY, routable=True, ready_at=0.0)

    @property
    def desired(self) -> DesiredState:
        revision = Revision(
            number=OLD,
            base_model=BaseModel(uri="simulated://x", served_name="demo"),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu"),),
        )
        target = self.case.target
        candidate = dataclasses.replace(revision, number=NEW)
        assignment = Assignment(
            deployment=Deployment(name="demo", revision=revision, rollout=self.case.policy),
            envelopes=(
                Envelope(deployment="demo", pool=POOL, floor=0, target=target, ceiling=target),
            ),
            candidate=Candidate(revision=candidate, replicas=((POOL, self.case.tried),)),
        )
        return DesiredState(
            plane="here", version=Version(epoch=1, generation=1), assignments=(assignment,)
        )

    @property
    def observed(self) -> Observed:
        size = self.case.target + self.case.spare
        return Observed(
            replicas=tuple(self.replicas.values()),
            pools=(SeenPool(name=POOL, accelerator="cpu", accelerators=size),),
            backoffs=tuple(self.backoffs.values()),
        )

    def live(self, *revisions: int) -> int:
        states = (ReplicaState.STARTING, ReplicaState.READY)
        wanted = revisions or (OLD, NEW)
        return sum(
            one.state in states and one.alive and one.revision in wanted
            for one in self.replicas.values()
        )

    def step(self) -> None:
        """Plan, do all of it, let the engines have their time, and check what always holds."""
        for action in plan(self.desired, self.observed, self.now):
            match action:
                case StartReplica():
                    self.replicas.pop(action.replaces or "", None)
                    self._add(action.revision, restarts=action.restarts, failures=action.failures)
                    self.starts += action.revision == NEW
                case DrainReplica():
                    self._set(
                        action.name,
                        state=ReplicaState.DRAINING,
                        draining_since=self.now,
                        in_flight=0,
                        routable=False,
                    )
                case ReviveReplica():
                    self._set(
                        action.name, state=ReplicaState.READY, draining_since=None, routable=True
                    )
                case FenceReplica():
                    self._fence(action.name)
                case _:
                    del self.replicas[action.name]
        used = sum(one.state is not ReplicaState.FAILED for one in self.replicas.values())
        assert used <= self.case.target + self.case.spare
        assert self.live() <= self.case.target + self.case.policy.max_surge
        self.now += STEP_SECONDS
        for one in tuple(self.replicas.values()):
            self._age(one)

    def _add(self, revision: int, **values: object) -> None:
        name = f"demo-r{revision}-{next(self._names)}"
        replica = SeenReplica(
            name=name,
            deployment="demo",
            revision=revision,
            pool=POOL,
            state=ReplicaState.STARTING,
            started_at=self.now,
        )
        self.replicas[name] = dataclasses.replace(replica, **values)  # type: ignore[arg-type]
        fates = self.case.fates
        if revision == NEW:
            self.fates[name] = fates[self.starts % len(fates)]

    def _set(self, name: str, **values: object) -> None:
        self.replicas[name] = dataclasses.replace(self.replicas[name], **values)  # type: ignore[arg-type]

    def _fence(self, name: str) -> None:
        one = self.replicas[name]
        before = self.backoffs.get(
            one.revision, StartBackoff(deployment="demo", revision=one.revision)
        )
        served = None if one.ready_at is None else self.now - one.ready_at
        self.backoffs[one.revision] = after_failure(before, served, self.now)
        self._set(name, state=ReplicaState.FAILED, alive=False, routable=False)

    def _age(self, one: SeenReplica) -> None:
        fate = self.fates.get(one.name, Fate(comes_up=True, ends_after=None, by_host=False))
        if not one.alive or one.state in (ReplicaState.FAILED, ReplicaState.DRAINING):
            return
        if one.state is ReplicaState.STARTING:
            if self.now - one.started_at >= LOADS_SECONDS:
                if fate.comes_up:
                    up = {"state": ReplicaState.READY, "routable": True, "ready_at": self.now}
                    self._set(one.name, **up)
                else:
                    self._set(one.name, alive=False)
            return
        assert one.ready_at is not None
        served = self.now - one.ready_at
        if served >= SOUND_SECONDS:
            self._set(one.name, failures=0)
        if fate.ends_after is None or served < fate.ends_after:
            return
        if not fate.by_host:
            self._set(one.name, alive=False)
            return
        self._set(
            one.name,
            state=ReplicaState.STARTING,
            started_at=self.now,
            ready_at=None,
            routable=False,
            restarts=one.restarts + 1,
            failures=one.failures + 1,
        )


@settings(max_examples=examples(50))
@given(case=cases(ENDS))
def test_a_candidate_that_fails_leaves_the_earlier_revision_at_its_target(case: Case) -> None:
    plane = Plane(case)
    for _ in range(STEPS):
        plane.step()
    assert plane.live(OLD) == case.target
    assert plane.live(NEW) == 0
    assert plane.starts <= case.tried * CANDIDATE_FAILURES_MAX
    before = plane.starts
    for _ in range(STEPS):
        plane.step()
    assert plane.starts == before, "it is not tried again"
    assert plan(plane.desired, plane.observed, plane.now) == ()


@settings(max_examples=examples(50))
@given(case=cases(FATES))
def test_whatever_candidates_do_the_plane_comes_to_rest_with_all_it_is_to_serve(
    case: Case,
) -> None:
    plane = Plane(case)
    for _ in range(STEPS):
        plane.step()
    assert plane.live() == case.target
    assert plane.live(OLD) >= case.target - case.tried
    assert plan(plane.desired, plane.observed, plane.now) == ()
