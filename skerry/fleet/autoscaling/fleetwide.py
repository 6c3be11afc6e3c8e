"""The global loop: the same formula on the sum of all planes, split over them. Pure.

The control plane calls `decide` every 30 to 60 s and grants the targets with the envelopes; what a
plane does with its target, and without one, is `local`'s.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy
from skerry.fleet.autoscaling.load import LoadReading, LoadView, LoadWindow, together
from skerry.fleet.autoscaling.local import COLD_START_SECONDS, settle
from skerry.fleet.autoscaling.need import Need, NeedMemory
from skerry.fleet.autoscaling.tuning import FLEET_TUNING, Tuning
from skerry.fleet.autoscaling.utilization import UtilizationTarget
from skerry.fleet.autoscaling.work import Engine, Work, estimate
from skerry.fleet.deployment import REPLICAS_MAX

# Planes may report as seldom as this loop turns; two turns without a word are silence.
FLEET_STALE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneShare:
    """One plane of a deployment: what it runs (starting ones count), its envelope, its price.

    `engine` None: nothing is known of what its replicas cost, so it keeps what it runs.
    """

    plane: str
    running: int
    floor: int
    ceiling: int
    engine: Engine | None
    price_per_hour: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an envelope that has nothing in it."""
        if not 0 <= self.floor <= self.ceiling or self.running < 0:
            raise ValueError(f"{self.plane}: need 0 <= floor <= ceiling and running >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDecision:
    """Targets by plane, what the sum needs, and what no envelope had room for."""

    at: float
    targets: Mapping[str, int]
    because: Because
    running: int
    need: Need | None = None
    highest: int | None = None
    unmet: int = 0
    unheard: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Return the replicas of all planes together."""
        return sum(self.targets.values())

    def describe(self) -> str:
        """Return the decision as a sentence."""
        shares = ", ".join(f"{plane} {count}" for plane, count in sorted(self.targets.items()))
        told = f"{self.total} replicas ({shares}) in place of {self.running}: {self.because}"
        if self.need is not None:
            told += f"; {self.need.describe()}"
        if self.highest is not None:
            told += f"; at most {self.highest} within the scale-down delay"
        if self.unheard:
            told += f"; nothing heard from {', '.join(self.unheard)}, so nothing goes"
        if self.unmet:
            told += f"; {self.unmet} more have no room in any envelope"
        return f"{told}."


class FleetScaler:
    """What the control plane remembers of a deployment's load over all planes."""

    def __init__(self, factors: ScalingFactors, tuning: Tuning = FLEET_TUNING) -> None:
        """Begin with nothing seen."""
        self.factors = factors
        self.tuning = tuning
        self.utilization = UtilizationTarget(factors.target_utilization, tuning)
        self._windows: dict[str, LoadWindow] = {}
        self._last: dict[str, LoadView] = {}
        self._memory = NeedMemory(tuning)
        self._since: float | None = None
        self._went_down_at: float | None = None
        self._lacking_since: float | None = None
        self._moved_at: float | None = None
        self._placed = self._running = REPLICAS_MAX  # of the last turn; at first nothing rose

    def observe(self, plane: str, reading: LoadReading) -> None:
        """Take what a plane counted; `at` is of the control plane's clock, when it was heard."""
        window = self._windows.get(plane)
        if window is None:
            window = LoadWindow(self.factors.window_seconds, FLEET_STALE_SECONDS)
            self._windows[plane] = window
        window.observe(reading)

    def users_at(self, now: float) -> tuple[str, ...]:
        """Return the planes where users of the deployment were counted, whoever serves them.

        One that is silent since stays among them, as long as `decide` is given a share of it.
        """
        found = []
        for plane, window in sorted(self._windows.items()):
            view = window.view(now)
            if plane in self._last or (view is not None and view.requests_long > 0.0):
                found.append(plane)
        return tuple(found)

    def decide(
        self,
        now: float,
        when: datetime,
        shares: Sequence[PlaneShare],
        cold_start_seconds: float = COLD_START_SECONDS,
    ) -> FleetDecision:
        """Return the targets; `when` is the time of day, for schedules."""
        running = sum(share.running for share in shares)
        keep = {share.plane: _held(share, share.running) for share in shares}
        floor = max(self.factors.min_replicas, self.factors.scheduled_floor(when))
        if self.factors.paused or self.factors.strategy is Strategy.CONCURRENCY:
            # The published rule knows no sum: each plane's own loop applies it.
            because = Because.PAUSED if self.factors.paused else Because.STEADY
            return FleetDecision(at=now, targets=keep, because=because, running=running)
        views, unheard = self._views(now, shares)
        work = {
            share.plane: estimate(views[share.plane], share.engine)
            for share in shares
            if share.engine is not None and share.plane in views
        }
        if not work:
            return FleetDecision(
                at=now,
                targets=keep,
                because=Because.SIGNAL_MISSING,
                running=running,
                unheard=unheard,
            )
        others = sum(keep[share.plane] for share in shares if share.plane not in work)
        known = sum(share.running for share in shares if share.plane in work)
        need, highest, target, because = self._total(
            now, (views, work), known, max(0.0, cold_start_seconds)
        )
        if unheard and target < known:
            target, because = known, Because.SIGNAL_MISSING
        wanted = min(max(target + others, floor), self.factors.max_replicas)
        because = because if wanted == target + others else Because.BOUNDS
        weights = {plane: one.rate for plane, one in work.items()}
        bound = [_bound(one, keep[one.plane], one.plane in work, unheard) for one in shares]
        ideal = split(wanted, bound, weights, need.utilization)
        targets = self._steady(now, wanted, bound, ideal)
        placed = sum(targets.values())
        self._placed, self._running = placed - others, known
        if placed < running:
            self._went_down_at = now
        return FleetDecision(
            at=now,
            targets=targets,
            because=because,
            running=running,
            need=need,
            highest=highest,
            unmet=max(0, wanted - placed),
            unheard=unheard,
        )

    def _steady(
        self, now: float, wanted: int, shares: Sequence[PlaneShare], ideal: Mapping[str, int]
    ) -> dict[str, int]:
        """Return the ideal split with as few starts as it takes.

        Loads shift between planes from minute to minute, and each shift would cost a cold start
        where spillover costs nothing. So replicas are added where they lack and taken where they
        are too many; one moves when a plane has lacked it for a whole scale-down delay.
        """
        found = nearest(wanted, shares, ideal)
        lacking = [one for one in shares if ideal[one.plane] > found[one.plane]]
        if not lacking or (self._lacking_since is not None and now < self._lacking_since):
            self._lacking_since = None
            return found
        if self._lacking_since is None:
            self._lacking_since = now
        if now - self._lacking_since < self.factors.delay_seconds:
            return found
        # The new one first; who has one too many loses it when the sum next goes down.
        self._lacking_since = now
        worst = max(lacking, key=lambda one: (ideal[one.plane] - found[one.plane], one.plane))
        if sum(found.values()) < self.factors.max_replicas:
            found[worst.plane] += 1
            self._moved_at = now
        return found

    def _views(
        self, now: float, shares: Sequence[PlaneShare]
    ) -> tuple[dict[str, LoadView], tuple[str, ...]]:
        """Return what is known of each plane, the last known of those that are not heard."""
        unheard = []
        for share in shares:
            window = self._windows.get(share.plane)
            view = window.view(now) if window is not None else None
            if view is None:
                unheard.append(share.plane)
            else:
                self._last[share.plane] = view
        names = {share.plane for share in shares}
        for gone in [plane for plane in self._last if plane not in names]:
            del self._last[gone]
            self._windows.pop(gone, None)
        return dict(self._last), tuple(unheard)

    def _total(
        self,
        now: float,
        seen: tuple[Mapping[str, LoadView], Mapping[str, Work]],
        running: int,
        cold_start: float,
    ) -> tuple[Need, int, int, Because]:
        """Return the sum's need, the highest of the delay, the target and why."""
        views, works = seen
        view = together([views[plane] for plane in works])
        if view.since != self._since:
            self._since = view.since
            self._memory.forget()
        work = Work(
            short=math.fsum(one.short for one in works.values()),
            long=math.fsum(one.long for one in works.values()),
            queued_seconds=math.fsum(one.queued_seconds for one in works.values()),
            saturation=math.fsum(one.saturation for one in works.values()),
            output_tokens=max(one.output_tokens for one in works.values()),
        )
        settled = self._went_down_at is None or not (
            self._went_down_at <= now < self._went_down_at + cold_start
        )
        utilization = self.utilization.follow(view.judged_seen, view.good_seen, now, settled)
        self._memory.learn(work, view.at, cold_start)
        need = self._memory.need(work, utilization, self.factors.warm_spares)
        delay = max(self.factors.delay_seconds, cold_start)
        # What a plane started by itself since our last turn, it needed; ours come as placed.
        rose = running > max(self._placed, self._running)
        noted = max(need.replicas, running) if rose else need.replicas
        highest = self._memory.highest(noted, now, delay)
        moving = self._moved_at is not None and 0.0 <= now - self._moved_at < cold_start
        watched = now - view.since >= delay and not moving
        target, because = settle(need, highest, running, watched, self.tuning)
        return need, highest, target, because


def split(
    total: int,
    shares: Sequence[PlaneShare],
    weights: Mapping[str, float],
    utilization: float,
) -> dict[str, int]:
    """Return `total` replicas over planes: by load, the spare ones where they are cheapest.

    The sum is `total` wherever floors and ceilings allow it, the nearest that they do otherwise.
    """
    most = sum(share.ceiling for share in shares)
    total = min(max(total, sum(share.floor for share in shares)), most)
    busy = math.ceil(math.fsum(weights.values()) / utilization) if utilization > 0.0 else total
    found = largest_remainder(min(total, busy), shares, weights)
    spare = total - sum(found.values())
    for share in sorted(shares, key=lambda one: (one.price_per_hour, one.plane)):
        taken = min(spare, share.ceiling - found[share.plane])
        found[share.plane] += taken
        spare -= taken
    return found


def largest_remainder(
    total: int, shares: Sequence[PlaneShare], weights: Mapping[str, float]
) -> dict[str, int]:
    """Return whole numbers nearest to the weights' parts of `total`, inside floors and ceilings.

    Their sum is exactly `total` moved into what the bounds leave.
    """
    floors, ceilings = sum(s.floor for s in shares), sum(s.ceiling for s in shares)
    total = min(max(total, floors), ceilings)
    exact = _parts(total, shares, weights)
    found = {
        share.plane: min(max(math.floor(exact[share.plane]), share.floor), share.ceiling)
        for share in shares
    }
    left = total - sum(found.values())
    order = sorted(
        shares, key=lambda one: (found[one.plane] - exact[one.plane], one.price_per_hour, one.plane)
    )
    while left > 0:  # one each by the largest remainder, as long as there is room
        for share in order:
            if left > 0 and found[share.plane] < share.ceiling:
                found[share.plane] += 1
                left -= 1
    while left < 0:  # floors took more than their part
        for share in reversed(order):
            if left < 0 and found[share.plane] > share.floor:
                found[share.plane] -= 1
                left += 1
    return found


def nearest(total: int, shares: Sequence[PlaneShare], ideal: Mapping[str, int]) -> dict[str, int]:
    """Return `total` replicas that only add to, or only take from, those that run.

    What is added goes where most lack by the ideal, what is taken goes where most are too many.
    """
    found = {one.plane: _held(one, one.running) for one in shares}
    left = total - sum(found.values())
    way = 1 if left > 0 else -1
    for _ in range(abs(left)):
        room = [
            one
            for one in shares
            if (found[one.plane] < one.ceiling if way > 0 else found[one.plane] > one.floor)
        ]
        if not room:
            break
        price = 1.0 if way > 0 else -1.0
        best = max(
            room,
            key=lambda one: (
                way * (ideal[one.plane] - found[one.plane]),
                -price * one.price_per_hour,
                one.plane,
            ),
        )
        found[best.plane] += way
    return found


def _parts(
    total: int, shares: Sequence[PlaneShare], weights: Mapping[str, float]
) -> dict[str, float]:
    """Return each plane's exact part, those at a bound fixed there and the rest shared anew."""
    fixed: dict[str, float] = {}
    free = list(shares)
    exact: dict[str, float] = {}
    while free:
        left = total - math.fsum(fixed.values())
        weight = math.fsum(max(0.0, weights.get(one.plane, 0.0)) for one in free)
        exact = {
            one.plane: left * max(0.0, weights.get(one.plane, 0.0)) / weight
            if weight > 0.0
            else left / len(free)
            for one in free
        }
        low = [one for one in free if exact[one.plane] < one.floor]
        high = [one for one in free if exact[one.plane] > one.ceiling]
        short = math.fsum(one.floor - exact[one.plane] for one in low)
        over = math.fsum(exact[one.plane] - one.ceiling for one in high)
        if not low and not high:
            break
        bound = low if short >= over else high
        for one in bound:
            fixed[one.plane] = float(one.floor if bound is low else one.ceiling)
        free = [one for one in free if one.plane not in fixed]
    return {**exact, **fixed}


def _bound(share: PlaneShare, keep: int, is_known: bool, unheard: Collection[str]) -> PlaneShare:
    """Return the share with the bounds that what is not known of its plane leaves."""
    if not is_known:  # what its replicas do, or cost, is not known: it keeps what it has
        return replace(share, floor=keep, ceiling=keep)
    return replace(share, floor=keep) if share.plane in unheard else share


def _held(share: PlaneShare, replicas: int) -> int:
    return min(max(replicas, share.floor), share.ceiling)
