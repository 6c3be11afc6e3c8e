"""Users of the simulated world, and the gateways that count and share out what they ask for.

Requests are no events: a rate that moves in steps and ramps is added up when somebody looks. What a
gateway counts outlives its plane's agent, as the picker does.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from skerry.plumbing.watched_file import Unread
from tests.simulation.timeline import Timeline
from workload_plane.converge.demand import DeploymentDemand
from workload_plane.picker.counts import Answers, Arrivals, Counters, DeploymentCounters

TICK_SECONDS = 2.5
PROMPT_TOKENS = 100.0
# What a request costs, as the fleet's profile says it: a replica does four a second, four at once.
REPLICA_SECONDS = 0.25
SLOTS = 4
WAITING_MAX = 200.0  # then users give up
REMEMBERED_SECONDS = 150.0
SLACK = 1e-9
# Who asks less often than this when loads are to stay is nobody: what is started for one request
# would go before the next, for ever.
SELDOM_RATE = 0.2

# How many replicas of a deployment serve here, None where the gateway itself is without power.
Serving = Callable[[str], int | None]


@dataclass(slots=True)
class Flow:
    """How many requests a second users of one gateway send: from `rate` to `towards` by `until`."""

    at: float = 0.0
    rate: float = 0.0
    towards: float = 0.0
    until: float = 0.0

    def now(self, now: float) -> float:
        """Return the rate of this moment."""
        if now >= self.until or self.until <= self.at:
            return self.towards
        part = (now - self.at) / (self.until - self.at)
        return self.rate + part * (self.towards - self.rate)

    def turn(self, now: float, towards: float, seconds: float) -> None:
        """Have it move to another rate, at once or over some seconds."""
        self.rate = self.now(now)
        self.at, self.towards, self.until = now, towards, now + seconds

    def hold(self, now: float) -> None:
        """Have it stay as it is."""
        self.turn(now, self.now(now), 0.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What came in a second: of users here, and for replicas here."""

    at: float
    users: float
    here: float


@dataclass(slots=True)
class _Counted:
    """One deployment at one gateway: its users, what was counted of them, and what waits."""

    flow: Flow = field(default_factory=Flow)
    users: float = 0.0
    away: float = 0.0
    forwarded: float = 0.0
    finished: float = 0.0
    here: float = 0.0  # since the last tick
    busy: float = 0.0  # replicas' work of the last tick
    waiting: float = 0.0
    asked_at: float = -math.inf  # when the last whole request came, of users or of a peer
    known_asked_at: float = -math.inf  # of those that this run of the picker knows
    written_asked_at: float = -math.inf  # of all when the picker wrote last
    past: deque[Seen] = field(default_factory=deque)

    def begin_anew(self) -> None:
        """Forget what was counted, as another run of the picker does."""
        self.users = self.away = self.forwarded = self.finished = self.waiting = 0.0
        self.known_asked_at = -math.inf

    def asked(self, now: float) -> None:
        """Remember that a request came."""
        self.asked_at = self.known_asked_at = now


class Gateway:
    """One plane's gateway as its users and its agent's autoscaler know it."""

    def __init__(self, timeline: Timeline, deployments: Sequence[str], serving: Serving) -> None:
        self.run = 1
        self.is_silent = False  # the picker does not answer its agent
        self.peers: Callable[[], Iterator[Gateway]] = lambda: iter(())
        self.woken: Callable[[], None] = lambda: None  # somebody waits for what had nobody wait
        # What the picker wrote for its agent last, and how often it has.
        self.demand: Mapping[str, DeploymentDemand] = {}
        self.written, self.written_at = 0, -math.inf
        self._timeline = timeline
        self._serving = serving
        self._of = {deployment: _Counted() for deployment in deployments}

    def begin(self) -> None:
        """Begin to add up."""
        self._timeline.after(TICK_SECONDS, self._tick)

    def restart(self) -> None:
        """Have the picker begin anew: it counts from 0."""
        self.run += 1
        for counted in self._of.values():
            counted.begin_anew()

    def turn(self, deployment: str, rate: float, seconds: float) -> None:
        """Have users ask for more or for less."""
        self._of[deployment].flow.turn(self._timeline.now, rate, seconds)

    def hold(self) -> None:
        """Have users ask for as much as they do now, for ever."""
        now = self._timeline.now
        for counted in self._of.values():
            counted.flow.hold(now)
            if counted.flow.towards < SELDOM_RATE:
                counted.flow.turn(now, 0.0, 0.0)

    def rate(self, deployment: str) -> float:
        """Return how many requests users here send a second."""
        counted = self._of.get(deployment)
        return counted.flow.now(self._timeline.now) if counted is not None else 0.0

    def waiting(self, deployment: str) -> int:
        """Return how many requests wait here for a replica."""
        return int(self._of[deployment].waiting)

    def asked_at(self, deployment: str) -> float:
        """Return when a request of it came last, of users or of a peer, as the picker wrote it."""
        return self._of[deployment].written_asked_at

    def least(self, deployment: str, seconds: float, *, here: bool) -> float:
        """Return the smallest rate of the last seconds, 0 of what was not seen for so long.

        Of what came for replicas `here`, or of what users sent.
        """
        counted = self._of.get(deployment)
        since = self._timeline.now - seconds
        if counted is None or not counted.past or counted.past[0].at > since:
            return 0.0
        return min(
            one.here if here else one.users for one in counted.past if one.at > since - TICK_SECONDS
        )

    def counters(self) -> Counters | None:
        """Return what the picker tells, None where it does not answer."""
        if self.is_silent:
            return None
        return Counters(
            run=self.run,
            deployments={name: _told(counted) for name, counted in self._of.items()},
        )

    def take_over(self, deployment: str, requests: float) -> float:
        """Serve requests that a peer sends on, as many as there is room for; return how many."""
        counted = self._of[deployment]
        room = (self._serving(deployment) or 0) * TICK_SECONDS / REPLICA_SECONDS
        taken = min(requests, max(0.0, room - counted.here))
        if int(counted.forwarded + taken) > int(counted.forwarded):
            counted.asked(self._timeline.now)
        counted.forwarded += taken
        counted.here += taken
        return taken

    def _tick(self) -> None:
        now = self._timeline.now
        for name, counted in self._of.items():
            came = counted.flow.now(now - TICK_SECONDS / 2) * TICK_SECONDS
            rate, replicas = came / TICK_SECONDS, self._serving(name)
            if replicas is not None:
                if int(counted.users + came) > int(counted.users):
                    counted.asked(now)
                counted.users += came
                self._serve(name, counted, came, replicas)
            counted.past.append(Seen(now, rate, counted.here / TICK_SECONDS))
            while counted.past[0].at < now - REMEMBERED_SECONDS:
                counted.past.popleft()
            counted.here = 0.0
        self._write_demand(now)
        self._timeline.after(TICK_SECONDS, self._tick)

    def _write_demand(self, now: float) -> None:
        """Have the picker write what is asked for, as long as it does anything."""
        is_powered = all(self._serving(name) is not None for name in self._of)
        if self.is_silent or not is_powered:
            return
        before = self.demand
        for one in self._of.values():
            one.written_asked_at = one.asked_at
        self.demand = {
            name: DeploymentDemand(waiting=int(one.waiting), idle_seconds=now - one.known_asked_at)
            for name, one in self._of.items()
        }
        self.written, self.written_at = self.written + 1, now
        if any(one.waiting and not _waits(before, name) for name, one in self.demand.items()):
            self.woken()

    def _serve(self, name: str, counted: _Counted, came: float, replicas: int) -> None:
        """Share out what came and what waits: here as far as there is room, then to peers."""
        room = replicas * TICK_SECONDS / REPLICA_SECONDS
        asked = came + counted.waiting
        more = asked - max(0.0, room - counted.here)
        for peer in self.peers():
            if more > SLACK:
                sent = peer.take_over(name, more)
                more -= sent
                counted.away += 0.0 if replicas else min(sent, came)
        served = asked - max(0.0, more)
        counted.here += came if replicas else 0.0
        counted.finished += served
        counted.waiting = min(max(0.0, more), WAITING_MAX)
        counted.busy = min(counted.here * REPLICA_SECONDS / TICK_SECONDS, float(replicas))


@dataclass(slots=True)
class DemandFile:
    """What a picker writes for its agent, as `WatchedFile` gives it to one run of the agent."""

    gateway: Gateway
    read: int = 0

    def look(self) -> Mapping[str, DeploymentDemand] | Unread:
        """Return what was written since the last look, else why there is nothing."""
        written = self.gateway.written
        if written == self.read:
            return Unread.SAME if written else Unread.ABSENT
        self.read = written
        return self.gateway.demand


def _waits(demand: Mapping[str, DeploymentDemand], name: str) -> bool:
    return name in demand and demand[name].waiting > 0


def _told(counted: _Counted) -> DeploymentCounters:
    running = round(counted.busy * SLOTS)
    waiting = int(counted.waiting)
    return DeploymentCounters(
        users=_arrivals(counted.users, counted.away, running + waiting),
        forwarded=_arrivals(counted.forwarded, 0.0, 0),
        answers=Answers(finished=int(counted.finished)),
        here=running,
        waiting=waiting,
    )


def _arrivals(requests: float, away: float, is_open: int) -> Arrivals:
    return Arrivals(
        requests=int(requests),
        prompt_tokens=int(requests) * PROMPT_TOKENS,
        away_requests=int(away),
        away_prompt_tokens=int(away) * PROMPT_TOKENS,
        open=is_open,
    )
