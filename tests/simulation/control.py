"""A control plane of the simulated world: the product's loop, sight and registry, virtual time.

What is here and not the product's is I/O: who drives the coroutines, the streams of the planes and
the renewal of leadership.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from random import Random
from typing import cast

from control_plane.leading import term as terms
from control_plane.leading.outage import DatabaseSight
from control_plane.link.convert import decode_desired, encode_desired, message_of
from control_plane.link.freshness import are_current
from control_plane.link.push import Outbox
from control_plane.link.registry import Registry
from control_plane.link.session import IllegalTransition, Session, SessionEvent
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.loop import TICK_SECONDS, ReconcileLoop
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.sight import Sight
from control_plane.recovery.run import Recovery
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.upkeep import renewed
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import SolveLimits, solve
from skerry.api.plane.v1.plane_service_pb2 import Desired as Wire
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.plumbing.errors import Conflict, InvalidInput, SkerryError, StaleGeneration
from tests.builders import T0
from tests.simulation import messages as said
from tests.simulation.door import StoreDoor
from tests.simulation.network import End, Stream
from tests.simulation.store import SimStore
from tests.simulation.timeline import Pause, Process, SimClock, Timeline, Turns

QUICK = SolveLimits(searches=False, explained_max=0)  # nobody reads the ways out
EXACT = SolveLimits(deterministic_time_max=0.02, explained_max=1)
SOLVE_SECONDS = (0.02, 0.4)
# A turn that found nothing to do is not repeated each second: a simulated minute would cost twice
# as much and show no more. Whatever is heard still wakes the loop at once.
IDLE_SECONDS = 3.0
WAKE_SECONDS = (0.02, 0.25)
JUST_AFTER_SECONDS = 0.001
FLUSH_SECONDS = 1.0


@lru_cache(maxsize=20_000)
def _solved(problem: PlacementProblem, limits: SolveLimits) -> PlacementPlan:
    return solve(problem, limits)


@lru_cache(maxsize=20_000)
def _encoded(state: DesiredState) -> tuple[bytes, bytes]:
    return encode_desired(state)


@lru_cache(maxsize=20_000)
def decoded(payload: bytes, version: Version) -> DesiredState:
    """Return a stored state's value; many seeds store the same."""
    return decode_desired(payload, version)


@lru_cache(maxsize=20_000)
def _pushed(payload: bytes, version: Version) -> bytes:
    """Return a push's bytes; many seeds push the same."""
    return message_of(payload, version).SerializeToString()


class SimSolver:
    """The solver's process: it takes its time and then says what the scheduler says."""

    def __init__(self, random: Random, limits: SolveLimits) -> None:
        self._random = random
        self._limits = limits

    async def solve(self, problem: PlacementProblem) -> PlacementPlan:
        """Return the plan."""
        await Pause(self._random.uniform(*SOLVE_SECONDS))
        # Why something runs where it does is told to people and changes no plan.
        current = tuple(replace(placement, reason="") for placement in problem.current)
        return _solved(replace(problem, now=T0, current=current), self._limits)


@dataclass(slots=True)
class Link:
    """One plane's stream at this end."""

    stream: Stream
    end: End
    session: Session = field(default_factory=Session)
    plane: str = ""
    outbox: Outbox | None = None
    since: float = 0.0  # when the plane's Hello came


@dataclass(slots=True)
class Reign:
    """All that lasts as long as one leadership."""

    term: terms.Term
    registry: Registry
    loop: ReconcileLoop
    since: float
    outages: DatabaseSight
    door: StoreDoor
    recovery: Recovery
    links: dict[str, Link] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)  # by what really arrived
    loads_at: dict[str, float] = field(default_factory=dict)  # of planes that told their loads
    flushed: dict[str, datetime] = field(default_factory=dict)
    turning: bool = False
    due_at: float | None = None
    encoded: dict[str, tuple[DesiredState, tuple[bytes, bytes]]] = field(default_factory=dict)


class SimControlPlane:
    """A control plane that leads or stands by."""

    def __init__(
        self, name: str, timeline: Timeline, store: SimStore, policy: ReconcilePolicy
    ) -> None:
        self.name = name
        self.process = Process(timeline, name)
        self.clock = SimClock(timeline)
        self.reign: Reign | None = None
        self.limits = QUICK
        self.scales = False  # whether the global loop decides
        self.failures: list[BaseException] = []  # turns that ended in what nobody foresaw
        self.on_greet: list[Callable[[Reign, said.Hello], None]] = []
        self._timeline = timeline
        self._random = timeline.noise(name)
        self._store = store
        self._policy = policy

    def start(self) -> None:
        """Start the process; it stands by at first."""
        self.process.start()
        self.reign = None
        self.process.after(self._random.uniform(0.0, 0.3), self._keep_leadership)

    def crash(self) -> None:
        """End the process with all that it remembers."""
        self.process.kill()
        self.reign = None

    @property
    def leads(self) -> bool:
        """Say whether it believes to lead."""
        return self.reign is not None

    # Leadership

    def _keep_leadership(self) -> None:
        asked_at = self._timeline.now
        # The answer of the database takes a while, and comes to whoever we are by then.
        wait = self._random.uniform(0.001, 0.05)
        if self.reign is None:
            taken = None if self._store.down else self._store.hold_leadership(self.name, 0)
            if taken is not None:
                new = taken
                self.process.after(wait, lambda: self._lead(new, asked_at))
            self.process.after(wait + terms.LOOK_SECONDS, self._keep_leadership)
            return
        epoch = self.reign.term.epoch
        leading = None
        if not self._store.down:
            renewed = self._store.hold_leadership(self.name, epoch)
            leading = self._store.rows.epoch if renewed is None else renewed
        self.process.after(wait, lambda: self._renewed(leading, asked_at))

    def _renewed(self, leading: int | None, asked_at: float) -> None:
        if self.reign is not None:
            term, now = self.reign.term, self._timeline.now
            if leading is None:
                self.reign.outages.note_failure(now)
            else:
                self.reign.outages.note_ok(now)
            if leading == term.epoch:
                self.reign.term = term.renewed(asked_at)
            elif terms.should_step_down(term, leading, now):
                self.step_down()
        pause = terms.RENEW_AGAIN_SECONDS if leading is None else terms.RENEW_SECONDS
        self.process.after(pause, self._keep_leadership)

    def _lead(self, epoch: int, asked_at: float) -> None:
        registry, outages = Registry(self.clock, self._wake), DatabaseSight()
        own = StoreDoor(self._store, self._timeline.noise(f"{self.name}/database"))
        door = cast(Database, own)
        recovery = Recovery(door, registry.held, self.clock)
        recovery._lock = cast(asyncio.Lock, Turns())
        sight = Sight(door, registry, self.clock, self._policy, decoded, outages=outages)
        doors = Doors(
            encode=self._encode,
            push=self._push,
            judged=registry.judged,
            solver=SimSolver(self._random, self.limits),
            recovery=recovery,
            loads=registry if self.scales else None,
            targets=registry.told_targets if self.scales else None,
        )
        loop = ReconcileLoop(door, sight, doors, self.clock, epoch=epoch)
        self.reign = Reign(
            term=terms.term_from(epoch, asked_at),
            registry=registry,
            loop=loop,
            since=self._timeline.now,
            outages=outages,
            door=own,
            recovery=recovery,
        )
        self._turn_in(0.0)
        self._flush_leases(self.reign)

    def _flush_leases(self, reign: Reign) -> None:
        """Write down for ever when planes were heard, as `upkeep` does."""
        if self.reign is not reign:
            return
        if not self._store.down:
            write = WriteContext(epoch=reign.term.epoch, actor=self.name, now=self.clock.now())
            with suppress(StaleGeneration):
                observations = reign.registry.observations()
                self._store.flush_leases(write, renewed(observations, reign.flushed))
                reign.flushed = {n: seen.received_at for n, seen in observations.items()}
        self.process.after(FLUSH_SECONDS, lambda: self._flush_leases(reign))

    def step_down(self) -> None:
        """Lead no more: planes are sent away and find who does."""
        reign, self.reign = self.reign, None
        if reign is not None:
            for link in list(reign.links.values()):
                link.stream.close(link.end)

    # Reconciliation

    def _wake(self) -> None:
        reign = self.reign
        if reign is not None:
            reign.loop.wake()
            if not reign.turning:
                self._turn_in(self._random.uniform(*WAKE_SECONDS))

    def _turn_in(self, seconds: float) -> None:
        reign = self.reign
        assert reign is not None
        due = self._timeline.now + seconds
        if reign.due_at is not None and reign.due_at <= due:
            return
        reign.due_at = due

        def turn() -> None:
            if self.reign is reign and reign.due_at == due and not reign.turning:
                self._turn(reign)

        self.process.after(seconds, turn)

    def _turn(self, reign: Reign) -> None:
        reign.turning, reign.due_at = True, None
        reign.loop._woken.clear()  # as `run` does before each turn
        written = len(self._store.journal)

        def ended(error: BaseException | None) -> None:
            if self.reign is not reign:
                return
            reign.turning = False
            if isinstance(error, StaleGeneration) and self._is_deposed(reign):
                self.step_down()
                return
            if error is not None and not isinstance(error, SkerryError):
                self.failures.append(error)
            woken = reign.loop._woken.is_set()
            quiet = error is None and written == len(self._store.journal) and self._hears_all()
            pause = IDLE_SECONDS if quiet else TICK_SECONDS
            if woken:
                pause = self._random.uniform(*WAKE_SECONDS)
            self._turn_in(pause)

        self.process.spawn(reign.loop.turn(), ended)

    def _is_deposed(self, reign: Reign) -> bool:
        return not self._store.down and self._store.rows.epoch != reign.term.epoch

    def _hears_all(self) -> bool:
        reign = self.reign
        return reign is not None and set(self._store.rows.planes) == set(reign.links)

    def _encode(self, state: DesiredState) -> tuple[bytes, bytes]:
        reign = self.reign
        if reign is None:
            return _encoded(state)
        known = reign.encoded.get(state.plane)
        if known is None or known[0] is not state:
            known = reign.encoded[state.plane] = (state, _encoded(state))
        return known[1]

    # Planes

    def accept(self, stream: Stream, end: End) -> None:
        """Take in a stream that a plane opened; a standby ends it."""
        link = Link(stream=stream, end=end)
        end.take = lambda message: self._take(link, message)
        end.ended = lambda: self._closed(link)
        if self.reign is None:
            stream.close(end)

    def _take(self, link: Link, message: object) -> None:
        reign = self.reign
        if reign is None:
            link.stream.close(link.end)
            return
        if link.outbox is not None:
            if not reign.registry.is_of(link.plane, link.outbox):
                link.stream.close(link.end)  # late words of a stream that another one replaced
                return
            reign.registry.hear(link.plane)
            reign.heard_at[link.plane] = self._timeline.now
        match message:
            case said.Hello() if not link.plane:
                self._greet(reign, link, message)
            case said.Heartbeat(number=number) if link.plane:
                current = self._are_current(reign, link.plane) if self.scales else None
                answer = said.Heartbeat(number=number, targets_current=current)
                link.stream.send(link.end, answer)
                if reign.registry.held.takes_turn(link.plane):
                    link.stream.send(link.end, said.TellHeld())
            case said.Held(payload=payload) if link.plane:
                with suppress(InvalidInput):
                    reign.registry.held.take(link.plane, Wire.FromString(payload))
            case said.Loads(report=loads) if link.plane:
                reign.registry.take_loads(link.plane, _heard_at(loads, self._timeline.now))
                reign.loads_at[link.plane] = self._timeline.now
            case said.Observed(report=report) if link.plane:
                reign.registry.observe(report)
            case said.Ack(version=version, digest=digest) if link.plane:
                self._advance(link, SessionEvent.ACK)
                reign.registry.acknowledge(link.plane, version, digest)
            case said.Nack(reason=reason) if link.plane:
                self._advance(link, SessionEvent.NACK)
                reign.registry.refuse(link.plane, reason)
            case _:
                pass  # said twice, or out of turn: it costs itself

    def _are_current(self, reign: Reign, plane: str) -> bool:
        period, registry = self._policy.scaling_period_seconds, reign.registry
        current = are_current(registry.targets_at, self._timeline.now, period)
        return current and not registry.has_refused(plane)

    def _greet(self, reign: Reign, link: Link, hello: said.Hello) -> None:
        timeout = self._policy.heartbeat_timeout_seconds
        try:
            link.outbox = reign.registry.open(
                hello.report, hello.agent_id, timeout, stream_number=hello.stream_number
            )
        except Conflict:
            link.stream.close(link.end)
            return
        for greeted in self.on_greet:
            greeted(reign, hello)
        link.plane, link.since = hello.report.identity.name, self._timeline.now
        link.session.on(SessionEvent.HELLO)
        reign.links[link.plane] = link
        reign.heard_at[link.plane] = self._timeline.now
        link.stream.send(
            link.end,
            said.Welcome(
                epoch=reign.term.epoch,
                period_ms=round(self._policy.heartbeat_period_seconds * 1000),
                timeout_ms=round(self._policy.heartbeat_timeout_seconds * 1000),
            ),
        )
        self._flush(link)
        self._watch(reign, link)

    def _watch(self, reign: Reign, link: Link) -> None:
        """Have a silent plane judged at once; end its stream with its lease."""
        told_of = -1.0

        def look() -> None:
            nonlocal told_of
            if (
                self.reign is not reign
                or not link.end.open
                or reign.links.get(link.plane) is not link
            ):
                return
            heard_at, now = reign.registry.heard_at(link.plane), self._timeline.now
            late_at = heard_at + self._policy.heartbeat_timeout_seconds + JUST_AFTER_SECONDS
            over_at = heard_at + self._policy.lease_seconds + JUST_AFTER_SECONDS
            if now >= over_at:
                link.stream.close(link.end)
                self._closed(link)
                return
            if now >= late_at and told_of != heard_at:
                told_of = heard_at
                reign.registry.fell_silent()
            self.process.after((late_at if now < late_at else over_at) - now, look)

        look()

    def _closed(self, link: Link) -> None:
        reign = self.reign
        if reign is None or link.outbox is None:
            return
        reign.registry.close(link.plane, link.outbox)
        if reign.links.get(link.plane) is link:
            del reign.links[link.plane]

    def _push(self, plane: str, version: Version, payload: bytes) -> None:
        reign = self.reign
        if reign is None or not terms.is_acting(reign.term, self._timeline.now):
            raise StaleGeneration("leadership is not renewed at present: nothing is pushed")
        reign.registry.push(plane, version, payload)
        link = reign.links.get(plane)
        if link is not None:
            self._flush(link)

    def _flush(self, link: Link) -> None:
        """Send what the outbox holds; the product's task does so once it is filled."""
        outbox = link.outbox
        if outbox is None or not link.end.open or (waiting := outbox.take_state()) is None:
            return
        version, payload = waiting
        self._advance(link, SessionEvent.PUSH)
        link.stream.send(link.end, said.Desired(version=version, payload=_pushed(payload, version)))

    def _advance(self, link: Link, event: SessionEvent) -> None:
        with suppress(IllegalTransition):  # one bad message costs itself
            link.session.on(event)


def _heard_at(loads: LoadReport, now: float) -> LoadReport:
    """Return what was told as of the moment when it came: who hears it has no other clock."""
    return LoadReport(loads=tuple(_load_at(one, now) for one in loads.loads), spent=loads.spent)


def _load_at(load: DeploymentLoad, now: float) -> DeploymentLoad:
    reading = replace(load.reading, at=now) if load.reading is not None else None
    return replace(load, reading=reading)


def forget() -> None:
    """Forget what was solved: the solver is another one now."""
    _solved.cache_clear()
