"""Worlds in which links, paths and replicas come and go: who may be called lost in them?

Each second a plane and its witnesses say to a real registry what there is to say, and it is judged.
What is held against the verdict is what really happened, and no report.
"""

import random
from dataclasses import dataclass, field, replace

from control_plane.link.registry import Registry
from control_plane.link.said import SILENT_SECONDS
from control_plane.reconcile.failover import weigh
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import PlaneView
from control_plane.reconcile.testimony import together_seconds
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneReport, PlaneState, ReplicaState
from tests.builders import T0, a_plane_view, a_replica, a_report, a_snapshot
from tests.fakes.clock import FakeClock

SUBJECT, WITNESSES = "fra", ("aws", "gcp", "oci")
WORLDS, SECONDS = 150, 240
# What is seen within a second of its coming to pass is seen at once, and told with the next word.
TICK_SECONDS = 2.0
TOGETHER = together_seconds(ReconcilePolicy()) + TICK_SECONDS


@dataclass(slots=True)
class Witness:
    """Another plane: whether its path to the subject is open and it is heard, and what it saw."""

    tells_ages: bool
    clock_off: float
    path: bool = True
    heard: bool = True
    unseen_since: float | None = None  # really: since its gateway was unreachable from there
    saw_at: float = -1e9  # really
    served_at: float | None = None  # by its own clock, as its agent remembers
    verdict: PeerVerdict = PeerVerdict.UNKNOWN


@dataclass(slots=True)
class World:
    """One plane that is judged, its witnesses, and what happened when."""

    chance: random.Random
    clock: FakeClock = field(default_factory=FakeClock)
    ready: bool = True
    gateway: bool = True
    linked: bool = True
    told_ready_at: float = -1e9  # the last second in which it was heard and had READY replicas
    silent_since: float = -1e9
    returned_at: float = -1e9
    begun_at: float = 0.0
    witnesses: dict[str, Witness] = field(default_factory=dict)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        for name in WITNESSES:
            self.witnesses[name] = Witness(
                tells_ages=self.chance.random() < 0.6,
                clock_off=self.chance.uniform(-1e6, 1e6),
            )
        self.start()

    def start(self) -> None:
        """Begin anew as another leader, who has heard nobody."""
        self.registry = Registry(self.clock, lambda: None)
        self.begun_at = self.now

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def happen(self) -> None:
        """Let things come and go, some of them together as where a machine ends."""
        chance = self.chance
        if chance.random() < 0.01:
            self.ready = self.gateway = self.linked = False
        if chance.random() < 0.03:
            self.ready = not self.ready
        if chance.random() < 0.02:
            self.linked = not self.linked
        if chance.random() < 0.02:
            self.gateway = not self.gateway
        for one in self.witnesses.values():
            if chance.random() < 0.015:
                one.path = not one.path
            if chance.random() < (0.01 if one.heard else 0.1):
                one.heard = not one.heard
        if chance.random() < 0.004:
            self.start()

    def say(self) -> None:
        """Let whoever is heard say what it sees, or beat."""
        state = ReplicaState.READY if self.ready else ReplicaState.FAILED
        self._tell(a_report(SUBJECT, replicas=(a_replica("d", f"{SUBJECT}--cpu", state=state),)))
        if self.linked:
            if self.now - self.silent_since > TICK_SECONDS:
                self.returned_at = self.now
            self.silent_since = self.now
            self.told_ready_at = self.now if self.ready else self.told_ready_at
        for name, one in self.witnesses.items():
            self._look(one)
            views = [self._view(one)]
            views += [
                PeerView(plane=other, verdict=PeerVerdict.SERVING)
                for other in WITNESSES
                if other != name
            ]
            told = self.now + one.clock_off if one.tells_ages else None
            report = replace(a_report(name, peers=tuple(views)), told_at_seconds=told)
            self._tell(report)

    def _look(self, one: Witness) -> None:
        if one.path and self.gateway:
            one.unseen_since = None
        elif one.unseen_since is None:
            one.unseen_since = self.now
        if one.path and self.gateway and self.ready:
            one.verdict, one.saw_at, one.served_at = PeerVerdict.SERVING, self.now, self.now
        elif one.path and self.gateway:
            one.verdict = PeerVerdict.REACHABLE
        else:
            one.verdict = PeerVerdict.UNREACHABLE

    def _view(self, one: Witness) -> PeerView:
        until = None if one.verdict is PeerVerdict.SERVING else one.served_at
        if until is None or not one.tells_ages:
            return PeerView(plane=SUBJECT, verdict=one.verdict)
        return PeerView(
            plane=SUBJECT,
            verdict=one.verdict,
            served_until=T0,  # a wall clock's: it may show anything
            served_until_seconds=until + one.clock_off,
        )

    def _tell(self, report: PlaneReport) -> None:
        name = report.identity.name
        is_heard = self.linked if name == SUBJECT else self.witnesses[name].heard
        view = self.registry.view(name)
        if not is_heard:
            if view.connected:
                outbox = self.registry._planes[name].outbox
                assert outbox is not None
                self.registry.close(name, outbox)
            return
        if not view.connected:
            self.registry.open(report, name, 3.0, stream_number=1)
        else:
            self.registry.hear(name)
            self.registry.observe(report)

    def judged(self) -> tuple[PlaneState, tuple[PeerView, ...]]:
        """Return what the subject is judged to be, and what it rests on."""
        views = []
        for name in (SUBJECT, *WITNESSES):
            view: PlaneView = a_plane_view(name, state=None)
            views.append(replace(view, link=self.registry.view(name)))
        snapshot = a_snapshot(*views, age=self.now - self.begun_at)
        condition, verdict = weigh(snapshot)[SUBJECT]
        return condition.state, verdict.witnesses


def test_a_plane_is_lost_only_by_those_that_saw_it_serve_until_it_told_so_itself_last() -> None:
    lost = in_two_steps = by_older = 0
    for seed in range(WORLDS):
        world = World(random.Random(seed))
        for _ in range(SECONDS):
            world.happen()
            world.say()
            state, views = world.judged()
            world.clock.advance(1.0)
            if state is not PlaneState.LOST:
                continue
            against = [world.witnesses[view.plane] for view in views if view.is_against]
            told = f"seed {seed} at {world.now}: {world}"
            assert len(against) >= 2, told
            _hold(world, against, told)
            lost += 1
            by_older += not all(one.tells_ages for one in against)
            in_two_steps += world.silent_since - world.told_ready_at > TOGETHER
    assert lost > 100, "it is seldom asked"
    assert in_two_steps > 10, "no loss was in two steps"
    assert by_older > 10, "no witness of an older release counted"


def _hold(world: World, against: list[Witness], told: str) -> None:
    for one in world.witnesses.values():
        sees = one.path and world.gateway and world.ready
        assert not (one.heard and sees), f"somebody sees it serve: {told}"
    for one in against:
        assert one.heard, told
        assert one.saw_at >= world.told_ready_at - TOGETHER, f"it was cut off before: {told}"
        if one.saw_at < world.silent_since - TOGETHER:
            # In two steps: and the second one it saw as well, or both at the first.
            ended = (world.told_ready_at, world.begun_at, world.returned_at)
            steps = (world.silent_since, *ended)
            assert one.unseen_since is not None, told
            near = (abs(one.unseen_since - step) <= TOGETHER + SILENT_SECONDS for step in steps)
            assert any(near), f"it lost sight of it at another time: {told}"
