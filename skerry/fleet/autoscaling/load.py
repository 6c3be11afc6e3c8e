"""What came in: counters as they are read, and what they say about the last seconds. Pure.

A plane's agent reads counters of its gateway and engines every few seconds; `LoadWindow` keeps the
last of them. Every rate is over timestamps, so that no number of readings means anything.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

SHORT_SECONDS, LONG_SECONDS = 30.0, 120.0
# Answers' lengths are told by those that ended; a burst of short ones must not hide the long.
OUTPUT_SECONDS = 600.0
# Three readings that did not come. What is older says nothing about now.
STALE_SECONDS = 15.0
# After a longer silence, or a clock set back, what was counted before is another story.
GAP_SECONDS_MAX = 60.0
# An hour's window, a reading a second; older ones go first. Each takes 48 bytes: thousands of
# planes have a window for each deployment, and as objects one of ten minutes was 45 kB.
READINGS_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """Counters at a moment; `*_total` only grow, and begin at 0 again with their process.

    Requests and prompt tokens count when they come in from users, `prompt_tokens_total` without
    what a prefix cache has; finished ones with their output tokens when they end. `in_flight`
    includes `waiting_requests`, which no engine computes yet. `judged_total` are answers held
    against the objective, `good_total` those that met it.
    """

    at: float
    requests_total: float
    prompt_tokens_total: float
    finished_total: float
    output_tokens_total: float
    in_flight: float
    waiting_requests: float = 0.0
    waiting_prompt_tokens: float = 0.0
    judged_total: float = 0.0
    good_total: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no counter can say."""
        for name in _READING_FIELDS:
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0.0):
                told = f"{name} must be a number from 0 on, not {getattr(self, name)}"
                raise ValueError(told)
        if not math.isfinite(self.at):
            raise ValueError(f"at must be a moment, not {self.at}")


# Not read anew each time: a replay makes millions of readings.
_READING_FIELDS = tuple(field.name for field in fields(LoadReading) if field.name != "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadView:
    """What a window says at a moment: rates per second, means, and sums since it began.

    `since` is from when on counting went without a gap. `*_seen` only grow.
    """

    at: float
    since: float
    requests_short: float
    requests_long: float
    prompt_tokens_short: float
    prompt_tokens_long: float
    output_tokens_mean: float | None
    in_flight_short: float
    in_flight_window: float
    waiting_requests: float
    waiting_prompt_tokens: float
    judged_seen: float
    good_seen: float


class _Point(NamedTuple):
    """Sums since the window began, whatever processes restarted in between."""

    requests: float
    prompt_tokens: float
    finished: float
    output_tokens: float
    in_flight_seconds: float


_NOTHING = _Point(0.0, 0.0, 0.0, 0.0, 0.0)
_WIDTH = len(_NOTHING)


class LoadWindow:
    """The last readings of one plane and deployment, `window_seconds` long at least."""

    def __init__(
        self, window_seconds: float = LONG_SECONDS, stale_seconds: float = STALE_SECONDS
    ) -> None:
        """Begin with nothing read; what is older than `stale_seconds` says nothing."""
        self.window_seconds = window_seconds
        self.stale_seconds = stale_seconds
        self._keep_seconds = max(window_seconds, OUTPUT_SECONDS)
        self._times = array("d")
        self._sums = array("d")  # of each time the numbers of a `_Point`
        self._end = _NOTHING
        self._last: LoadReading | None = None
        self._since = 0.0
        self._judged = self._good = 0.0

    def observe(self, reading: LoadReading) -> None:
        """Take a reading; one that is no younger than the last begins anew, as after a gap."""
        last, self._last = self._last, reading
        if last is None or not 0.0 < reading.at - last.at <= GAP_SECONDS_MAX:
            if last is not None and reading.at == last.at:
                return  # told twice
            del self._times[:], self._sums[:]
            self._add(reading.at, _NOTHING)
            self._since = reading.at
            return
        before = self._end
        judged = _grown(last.judged_total, reading.judged_total)
        self._judged += judged
        self._good += min(judged, _grown(last.good_total, reading.good_total))
        self._add(
            reading.at,
            _Point(
                before.requests + _grown(last.requests_total, reading.requests_total),
                before.prompt_tokens
                + _grown(last.prompt_tokens_total, reading.prompt_tokens_total),
                before.finished + _grown(last.finished_total, reading.finished_total),
                before.output_tokens
                + _grown(last.output_tokens_total, reading.output_tokens_total),
                before.in_flight_seconds
                + 0.5 * (last.in_flight + reading.in_flight) * (reading.at - last.at),
            ),
        )
        self._forget(reading.at - self._keep_seconds)

    def view(self, now: float) -> LoadView | None:
        """Return what the readings say, None where they are too old, too few or from the future."""
        last = self._last
        if last is None or len(self._times) < 2 or not 0.0 <= now - last.at <= self.stale_seconds:
            return None
        at, end = self._times[-1], self._end
        over_short, short = self._before(at - SHORT_SECONDS)
        over_long, long = self._before(at - LONG_SECONDS)
        over_window, window = self._before(at - self.window_seconds)
        answers = self._point(0)
        finished = end.finished - answers.finished
        return LoadView(
            at=at,
            since=self._since,
            requests_short=(end.requests - short.requests) / over_short,
            requests_long=(end.requests - long.requests) / over_long,
            prompt_tokens_short=(end.prompt_tokens - short.prompt_tokens) / over_short,
            prompt_tokens_long=(end.prompt_tokens - long.prompt_tokens) / over_long,
            output_tokens_mean=(
                (end.output_tokens - answers.output_tokens) / finished if finished else None
            ),
            in_flight_short=(end.in_flight_seconds - short.in_flight_seconds) / over_short,
            in_flight_window=(end.in_flight_seconds - window.in_flight_seconds) / over_window,
            waiting_requests=last.waiting_requests,
            waiting_prompt_tokens=last.waiting_prompt_tokens,
            judged_seen=self._judged,
            good_seen=self._good,
        )

    def _before(self, at: float) -> tuple[float, _Point]:
        """Return the last point no younger than a moment, or the first, and the seconds since it.

        Never the last of all.
        """
        place = bisect_left(self._times, at)
        if place and (place == len(self._times) or self._times[place] > at):
            place -= 1
        place = min(place, len(self._times) - 2)
        return self._times[-1] - self._times[place], self._point(place)

    def _point(self, place: int) -> _Point:
        first = place * _WIDTH
        return _Point(*self._sums[first : first + _WIDTH])

    def _add(self, at: float, point: _Point) -> None:
        self._times.append(at)
        self._sums.extend(point)
        self._end = point

    def _forget(self, until: float) -> None:
        """Drop what is older; in lots, for an array drops its first dearly."""
        many = bisect_left(self._times, until) - 1
        surplus = len(self._times) - READINGS_MAX
        if many >= 64 or surplus > 0:
            dropped = max(many, surplus)
            del self._times[:dropped], self._sums[: dropped * _WIDTH]


def together(views: Sequence[LoadView]) -> LoadView:
    """Return several planes' views as one: rates and queues add up."""
    assert views, "there is none of nothing"
    known = [(v.output_tokens_mean, v.requests_long) for v in views if v.output_tokens_mean]
    weight = sum(requests for _, requests in known)
    mean = sum(tokens * requests for tokens, requests in known) / weight if weight else None

    def total(name: str) -> float:
        return math.fsum(getattr(view, name) for view in views)

    return LoadView(
        at=max(view.at for view in views),
        since=max(view.since for view in views),
        requests_short=total("requests_short"),
        requests_long=total("requests_long"),
        prompt_tokens_short=total("prompt_tokens_short"),
        prompt_tokens_long=total("prompt_tokens_long"),
        output_tokens_mean=mean,
        in_flight_short=total("in_flight_short"),
        in_flight_window=total("in_flight_window"),
        waiting_requests=total("waiting_requests"),
        waiting_prompt_tokens=total("waiting_prompt_tokens"),
        judged_seen=total("judged_seen"),
        good_seen=total("good_seen"),
    )


def _grown(before: float, now: float) -> float:
    """Return by how much a counter grew; one that fell began again at 0."""
    return now - before if now >= before else now
