"""The global loop: the same formula on the sum of all planes, split over them. Pure.

The control plane calls `decide` every 30 to 60 s and grants the targets with the envelopes; what a
plane does with its target, and without one, is `local`'s.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy
from skerry.fleet.autoscaling.load import LoadReading, LoadView, LoadWindow, together
from skerry.fleet.autoscaling.local import COLD_START_SECONDS, settle
from skerry.fleet.autoscaling.need import Need, NeedMemory
from skerry.fleet.autoscaling.splitting import (
    PlaneShare,
    held,
    largest_remainder,
    nearest,
    split,
)
from skerry.fleet.autoscaling.tuning import FLEET_TUNING, Tuning
from skerry.fleet.autoscaling.utilization import UtilizationTarget
from skerry.fleet.autoscaling.work import Work, estimate

__all__ = [
    "FLEET_STALE_SECONDS",
    "FleetDecision",
    "FleetScaler",
    "PlaneShare",
    "largest_remainder",
    "nearest",
    "split",
]

# Planes may report as seldom as this loop turns; two turns without a word are silence.
FLEET_STALE_SECONDS = 60.0
TOLD_PLANES_MAX = 12  # named in a sentence; thousands would be a page of it


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
        """Return the decision as a sentence, which names so many planes and counts the rest."""
        targets = sorted(self.targets.items(), key=lambda one: (-one[1], one[0]))
        shares = listed(f"{plane} {count}" for plane, count in targets)
        told = f"{self.total} replicas ({shares}) in place of {self.running}: {self.because}"
        if self.need is not None:
            told += f"; {self.need.describe()}"
        if self.highest is not None:
            told += f"; at most {self.highest} within the scale-down delay"
        if self.unheard:
            keeps = "it keeps" if len(self.unheard) == 1 else "they keep"
            told += f"; nothing heard from {listed(self.unheard)}, so {keeps} what is there"
        if self.unmet:
            told += f"; {self.unmet} more have no room in any envelope"
        return f"{told}."


def listed(names: Iterable[str]) -> str:
    """Return the first names as a list in words, with how many more there are."""
    told = tuple(names)
    more = len(told) - TOLD_PLANES_MAX
    if more <= 0:
        return ", ".join(told)
    return f"{', '.join(told[:TOLD_PLANES_MAX])} and {more} more"


@dataclass(frozen=True, slots=True)
class _Counted:
    """A plane as it was counted last: the round, since when, its work, answers and replicas."""

    at: float
    since: float
    short: float
    long: float
    judged: float
    good: float
    running: int
    placed: int

    @property
    def rate(self) -> float:
        return max(self.short, self.long)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The planes of one round: what each that is heard counted and its work, and what all keep.

    `keep` is what each has, and of one that is silent at least its target. `absent` have no work
    that is known now: they keep that, whatever the others do.
    """

    shares: Sequence[PlaneShare]
    views: Mapping[str, LoadView]
    works: Mapping[str, Work]
    keep: Mapping[str, int]
    unheard: tuple[str, ...]

    @property
    def running(self) -> int:
        """Return what runs where work is known."""
        return sum(share.running for share in self.shares if share.plane in self.works)

    @property
    def absent(self) -> Sequence[PlaneShare]:
        """Return the shares of planes whose work is not known now."""
        return [share for share in self.shares if share.plane not in self.works]


class FleetScaler:
    """What the control plane remembers of a deployment's load over all planes."""

    def __init__(self, factors: ScalingFactors, tuning: Tuning = FLEET_TUNING) -> None:
        """Begin with nothing seen."""
        self.factors = factors
        self.tuning = tuning
        self.utilization = UtilizationTarget(factors.target_utilization, tuning)
        self._windows: dict[str, LoadWindow] = {}
        self._counted: dict[str, _Counted] = {}
        self._judged = self._good = 0.0
        self._memory = NeedMemory(tuning)
        self._decided_at: float | None = None  # with anything counted
        self._since = 0.0  # from when on it is watched
        self._went_down_at: float | None = None
        self._lacking_since: float | None = None
        self._moved_at: float | None = None
        self._moved_to: tuple[str, int] | None = None  # which plane, and how many it is to run

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
            view = None if plane in self._counted else window.view(now)
            if plane in self._counted or (view is not None and view.requests_long > 0.0):
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
        if self.factors.paused or self.factors.strategy is Strategy.CONCURRENCY:
            self._decided_at = None  # what comes after is watched anew
            # The published rule knows no sum: each plane's own loop applies it.
            because = Because.PAUSED if self.factors.paused else Because.STEADY
            keep = {share.plane: held(share, share.running) for share in shares}
            return FleetDecision(at=now, targets=keep, because=because, running=running)
        seen = self._see(now, self._with_moved(now, shares, cold_start_seconds))
        if not seen.works:
            self._decided_at = None
            return FleetDecision(
                at=now,
                targets=seen.keep,
                because=Because.SIGNAL_MISSING,
                running=running,
                unheard=seen.unheard,
            )
        need, highest, target, because = self._total(now, seen, max(0.0, cold_start_seconds))
        floor = max(self.factors.min_replicas, self.factors.scheduled_floor(when))
        asked = target + sum(seen.keep[share.plane] for share in seen.absent)
        wanted = min(max(asked, floor), self.factors.max_replicas)
        because = because if wanted == asked else Because.BOUNDS
        weights = {plane: one.rate for plane, one in seen.works.items()}
        bound = self._bounded(now, seen, asked)
        # What others keep must not be taken for room of those whose load is known.
        ideal = {one.plane: one.floor for one in bound if one.plane not in seen.works}
        known = [one for one in bound if one.plane in seen.works]
        ideal |= split(wanted - sum(ideal.values()), known, weights, need.utilization)
        targets = self._steady(now, wanted, bound, ideal)
        placed = sum(targets.values())
        for plane in seen.works:
            self._counted[plane] = replace(self._counted[plane], placed=targets[plane])
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
            unheard=seen.unheard,
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
            self._moved_at, self._moved_to = now, (worst.plane, found[worst.plane])
        return found

    def _with_moved(
        self, now: float, shares: Sequence[PlaneShare], cold_start: float
    ) -> Sequence[PlaneShare]:
        """Return the shares with what moves to a plane as running there for a cold start.

        The next decision may come before the plane could report it, and would take it back.
        """
        if self._moved_to is None or self._moved_at is None:
            return shares
        if not 0.0 <= now - self._moved_at < cold_start:
            return shares
        plane, many = self._moved_to
        return [
            replace(one, running=max(one.running, min(many, one.ceiling)))
            if one.plane == plane
            else one
            for one in shares
        ]

    def _see(self, now: float, shares: Sequence[PlaneShare]) -> _Seen:
        """Return what is known of each plane now; planes without a share are forgotten."""
        views: dict[str, LoadView] = {}
        works: dict[str, Work] = {}
        keep: dict[str, int] = {}
        for share in shares:
            window = self._windows.get(share.plane)
            view = window.view(now) if window is not None else None
            least = share.running
            if view is None:  # what it runs may have fallen without our hearing of it
                least = max(least, share.granted)
            else:
                views[share.plane] = view
                if share.engine is not None:
                    works[share.plane] = estimate(view, share.engine)
            keep[share.plane] = held(share, least)
        for gone in self._counted.keys() - keep.keys():
            del self._counted[gone]
            self._windows.pop(gone, None)
        return _Seen(
            shares=shares,
            views=views,
            works=works,
            keep=keep,
            unheard=tuple(share.plane for share in shares if share.plane not in views),
        )

    def _total(self, now: float, seen: _Seen, cold_start: float) -> tuple[Need, int, int, Because]:
        """Return the sum's need, the highest of the delay, the target and why.

        It is the sum of the planes whose work is known now.
        """
        rose = self._follow(now, seen)
        view, work = together([seen.views[plane] for plane in seen.works]), _sum(seen.works)
        settled = self._went_down_at is None or not (
            self._went_down_at <= now < self._went_down_at + cold_start
        )
        utilization = self.utilization.follow(self._judged, self._good, now, settled)
        self._memory.learn(work, view.at, cold_start)
        work = self._with_others(work, seen, utilization)
        need = self._memory.need(work, utilization, self.factors.warm_spares)
        delay = max(self.factors.delay_seconds, cold_start)
        running = seen.running
        # What a plane started by itself since our last turn, it needed; ours come as placed.
        noted = max(need.replicas, running) if rose else need.replicas
        highest = self._memory.highest(noted, now, delay)
        moving = self._moved_at is not None and 0.0 <= now - self._moved_at < cold_start
        watched = now - self._since >= delay and not moving
        target, because = settle(need, highest, running, watched, self.tuning)
        return need, highest, target, because

    def _follow(self, now: float, seen: _Seen) -> bool:
        """Take who is counted this time, and say whether those of last time run more by themselves.

        Who comes, or comes back, used all that it has while it was not counted: what it needed
        then nobody knows. Its answers are judged from now on.
        """
        before = {plane: one for plane, one in self._counted.items() if one.at == self._decided_at}
        running = {share.plane: share.running for share in seen.shares}
        came: dict[float, int] = defaultdict(int)
        shift, now_running, were_placed, were_running = 0.0, 0, 0, 0
        stay = 0
        for plane, work in seen.works.items():
            view, last = seen.views[plane], self._counted.get(plane)
            if plane in before and last is not None and last.since == view.since:
                stay += 1
                self._judged += max(0.0, view.judged_seen - last.judged)
                self._good += max(0.0, view.good_seen - last.good)
                now_running += running[plane]
                were_placed += last.placed
                were_running += last.running
                del before[plane]
            else:
                came[last.at if last is not None else -math.inf] += seen.keep[plane]
                shift += work.rate
            self._counted[plane] = _Counted(
                now,
                view.since,
                work.short,
                work.long,
                view.judged_seen,
                view.good_seen,
                running[plane],
                running[plane],
            )
        self._decided_at = now
        if not stay:
            self._since = max(seen.views[plane].since for plane in seen.works)
            self._memory.forget()
            return False
        shift -= math.fsum(one.rate for one in before.values())  # who went
        if shift:
            self._memory.expect(shift)
        for moment, many in came.items():
            self._memory.raise_after(moment, many)
        return now_running > max(were_placed, were_running)

    def _with_others(self, work: Work, seen: _Seen, utilization: float) -> Work:
        """Return the work with what others may still do for planes that are silent.

        The users of one that was cut off may be there yet, served elsewhere; what its own replicas
        are enough for they do.
        """
        short = long = 0.0
        for share in seen.absent:
            last = self._counted.get(share.plane)
            if last is not None and share.engine is not None:
                own = seen.keep[share.plane] * utilization
                short += max(0.0, last.short - own)
                long += max(0.0, last.long - own)
        return replace(work, short=work.short + short, long=work.long + long)

    def _bounded(self, now: float, seen: _Seen, asked: int) -> list[PlaneShare]:
        """Return the shares with the bounds that what is not known of their planes leaves.

        Whose work is not known keeps what it has, and so does who is not watched for a whole delay
        yet, unless an operator allows no more.
        """
        found = []
        may_hold = asked <= self.factors.max_replicas
        for share in seen.shares:
            keep, view = seen.keep[share.plane], seen.views.get(share.plane)
            if share.plane not in seen.works:
                share = replace(share, floor=keep, ceiling=keep)
            elif (
                may_hold
                and view is not None
                and self._since < view.since > now - self.factors.delay_seconds
            ):
                share = replace(share, floor=keep)
            found.append(share)
        return found


def _sum(works: Mapping[str, Work]) -> Work:
    every = works.values()
    return Work(
        short=math.fsum(one.short for one in every),
        long=math.fsum(one.long for one in every),
        queued_seconds=math.fsum(one.queued_seconds for one in every),
        saturation=math.fsum(one.saturation for one in every),
        output_tokens=max(one.output_tokens for one in every),
    )
