"""One deployment's load, from the picker's counters and the engines' own. PURE.

The picker knows what came in and what waits, the engines how many tokens it was. Two readings come
of it: what this plane has to serve, and what its users asked for, which the fleet's sum is made of.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.load import LoadReading
from workload_plane.autoscale.growth import EngineCounters, EngineGrowth, grown
from workload_plane.autoscale.recent import RecentWindow
from workload_plane.picker.counts import Answers, Arrivals, DeploymentCounters
from workload_plane.picker.tickets import TTFT_SECONDS_PER_TOKEN
from workload_plane.replica_host.load import EngineLoad

# Over how long prompts' real lengths are held against what their bodies were taken for.
LENGTH_SECONDS = 600.0
# Four bytes a token is wrong by this much at most: characters of one language, or another.
LENGTH_RATIO_MIN, LENGTH_RATIO_MAX = 0.1, 10.0
_REQUESTS_MIN = 4.0  # fewer tell nothing of the others' length


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the picker counted at a moment; another `run` of it began at 0 again."""

    run: int
    counters: DeploymentCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """`local`: what replicas here have to serve. `fleet`: what users asked for at this gateway.

    Answers are in both those that were given here, so that a sum counts each once. `whole`: every
    replica told what it did; else lengths are those of before, and None of it is told to the fleet
    where there was no before.
    """

    local: LoadReading
    fleet: LoadReading | None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What users are promised: the time to the first token of a short prompt, and between two."""

    ttft_seconds: float
    tpot_seconds: float


@dataclass(slots=True)
class _Did:
    """What engines did that no reading has counted yet."""

    first_tokens: float = 0.0
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0

    def add(self, growth: Mapping[str, EngineGrowth]) -> None:
        """Add what they did since the last look."""
        for one in growth.values():
            self.first_tokens += one.first_tokens
            self.prompt_tokens += one.prompt_tokens
            self.generated_tokens += one.generated_tokens


@dataclass(slots=True)
class _Sums:
    """All that was counted since this agent began, whatever restarted in between."""

    requests: float = 0.0
    prompt_tokens: float = 0.0


class DeploymentSignals:
    """Makes readings of looks at one deployment."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._engines = EngineCounters()
        self._asked: Asked | None = None
        self._looked_at: float | None = None
        self._users, self._here = _Sums(), _Sums()
        self._finished = self._output_tokens = 0.0
        self._judged = self._good = 0.0
        # Decayed: requests and prompt tokens by the picker's estimate, and by the engines' count.
        self._guessed = self._guessed_tokens = self._real = self._real_tokens = 0.0
        self.growth: Mapping[str, EngineGrowth] = {}
        self._uncounted = _Did()
        self._was_whole = False
        # Decayed: answers and their tokens, of looks at which all replicas told.
        self._ended = self._ended_tokens = 0.0
        self._recent = RecentWindow()
        # The picker's run and its count of first bytes when it was heard last.
        self._firsts: tuple[int, tuple[float, ...]] | None = None

    def take(
        self,
        at: float,
        asked: Asked | None,
        loads: Mapping[str, EngineLoad | None],
        goal: Goal,
    ) -> Readings | None:
        """Return the readings of a look; None where nobody can say what came in.

        `loads` are of the READY replicas, None of one that did not answer. The picker's requests
        are of all replicas, so tokens that one of them does not tell would make all requests
        shorter: lengths are only learned between two looks at which all tell, and stay else.
        Of an engine whose tokens take longer than the goal no answer meets it.
        """
        self.growth = self._engines.take(at, loads)
        self._recent.take(self._first_bytes(asked), self.growth.values())
        self._decay(at)
        heard = [one for one in loads.values() if one is not None and one.answered]
        if asked is None or (loads and not heard):
            self._was_whole = False
            return None
        is_whole = len(heard) == len(loads)
        tells_output = any(one.generated_tokens is not None for one in heard)
        self._count(asked, tells_output, is_whole and self._was_whole, goal)
        self._was_whole = is_whole
        readings = self._readings(at, asked.counters, loads)
        if is_whole:
            return readings
        knows = self._ended >= 1.0 or not tells_output
        return replace(readings, fleet=readings.fleet if knows else None, whole=False)

    def take_engines(
        self, at: float, loads: Mapping[str, EngineLoad | None], goal: Goal
    ) -> Readings | None:
        """Return the readings of a plane without a picker: what its engines say, as far as all do.

        Requests count when their first token comes, and nobody but engines says what waits.
        """
        self.growth = self._engines.take(at, loads)
        self._recent.take((), self.growth.values())
        self._uncounted.add(self.growth)
        known = [one for one in loads.values() if one is not None]
        if len(known) < len(loads) or any(
            one.first_tokens is None or one.running_requests is None for one in known
        ):
            return None
        did, self._uncounted = self._uncounted, _Did()
        self._users.requests += did.first_tokens
        self._users.prompt_tokens += did.prompt_tokens
        self._finished += did.first_tokens
        self._output_tokens += did.generated_tokens
        self._judge((0.0, 0.0), goal)
        queued = float(sum(one.queued_requests or 0 for one in known))
        mean = self._users.prompt_tokens / self._users.requests if self._users.requests else 0.0
        reading = self._reading(
            at,
            self._users,
            in_flight=queued + sum(one.running_requests or 0 for one in known),
            waiting=(queued, queued * mean),
        )
        return Readings(local=reading, fleet=reading)

    def recent(self, at: float) -> RecentAnswers | None:
        """Return how answers of the last minutes went; None where none is known of."""
        return self._recent.view(at, self._judged, self._good)

    def _first_bytes(self, asked: Asked | None) -> tuple[float, ...]:
        """Return how many first bytes came between the bounds since the picker was heard last."""
        if asked is None:
            return ()
        before, now = self._firsts, asked.counters.first_bytes
        self._firsts = (asked.run, now)
        if before is None:
            return ()
        run, old = before
        if run != asked.run or not old:
            return now if run != asked.run else ()
        return tuple(grown(*pair) for pair in zip(old, now, strict=False))

    def _count(self, asked: Asked, tells_output: bool, all_told: bool, goal: Goal) -> None:
        before, self._asked = self._asked, asked
        if before is None:
            return
        now, old = asked.counters, before.counters
        if before.run != asked.run:
            old = DeploymentCounters(users=Arrivals(), forwarded=Arrivals(), answers=Answers())
        finished = grown(old.answers.finished, now.answers.finished)
        users, sent = _arrived(old.users, now.users), _arrived(old.forwarded, now.forwarded)
        away = _went_away(old.users, now.users)
        here = (users[0] - away[0] + sent[0], users[1] - away[1] + sent[1])
        self._guessed += users[0] + sent[0]
        self._guessed_tokens += users[1] + sent[1]
        did = _Did()
        did.add(self.growth)
        if all_told and (did.prompt_tokens or finished):
            self._real += finished
            self._real_tokens += did.prompt_tokens
        for sums, (requests, tokens) in ((self._users, users), (self._here, here)):
            sums.requests += max(0.0, requests)
            sums.prompt_tokens += max(0.0, self._lengthen(requests, tokens))
        if tells_output and all_told:  # else an answer's length is not known, and not 0
            self._finished += finished
            self._output_tokens += did.generated_tokens
            self._ended += finished
            self._ended_tokens += did.generated_tokens
        elif tells_output and self._ended >= 1.0:
            self._finished += finished
            self._output_tokens += finished * self._ended_tokens / self._ended
        streams = grown(old.answers.judged, now.answers.judged)
        in_time = min(streams, grown(old.answers.good, now.answers.good))
        self._judge((streams, in_time), goal)
        self._judged += grown(old.answers.failed, now.answers.failed)

    def _judge(self, streams: tuple[float, float], goal: Goal) -> None:
        """Count answers, and those in time: by first bytes, by first tokens, and by the others.

        A first byte may come before the first token, and an engine knows nothing of the time in the
        waiting room: who was late by either was late.
        """
        told = [one.first_within(_allowed(one, goal)) for one in self.growth.values()]
        firsts = [one for one in told if one is not None]
        tokens = (math.fsum(total for total, _ in firsts), math.fsum(good for _, good in firsts))
        judged = max(streams[0], tokens[0])
        shares = [good / total for total, good in (streams, tokens) if total > 0.0]
        self._judged += judged
        self._good += judged * min(shares, default=1.0) * (1.0 - self._late_share(goal))

    def _readings(
        self, at: float, told: DeploymentCounters, loads: Mapping[str, EngineLoad | None]
    ) -> Readings:
        queued = sum(one.queued_requests or 0 for one in loads.values() if one is not None)
        length = self._length()
        waiting = float(told.waiting + queued)
        local = self._reading(
            at,
            self._here,
            in_flight=max(float(told.here + told.waiting), waiting),
            waiting=(waiting, waiting * length),
        )
        fleet = self._reading(
            at,
            self._users,
            in_flight=max(float(told.users.open), waiting),
            waiting=(waiting, waiting * length),
        )
        return Readings(local=local, fleet=fleet)

    def _reading(
        self, at: float, sums: _Sums, in_flight: float, waiting: tuple[float, float]
    ) -> LoadReading:
        return LoadReading(
            at=at,
            requests_total=sums.requests,
            prompt_tokens_total=sums.prompt_tokens,
            finished_total=self._finished,
            output_tokens_total=self._output_tokens,
            in_flight=in_flight,
            waiting_requests=waiting[0],
            waiting_prompt_tokens=waiting[1],
            judged_total=self._judged,
            good_total=self._good,
        )

    def _lengthen(self, requests: float, tokens: float) -> float:
        """Return the tokens that these prompts are taken for, by what engines counted of others."""
        if self._real < _REQUESTS_MIN or self._real_tokens <= 0.0:
            return tokens
        if self._guessed_tokens <= 0.0:  # the policy looks at no bodies
            return requests * self._length()
        guessed = self._guessed_tokens / max(1.0, self._guessed)
        ratio = self._length() / guessed
        return tokens * min(max(ratio, LENGTH_RATIO_MIN), LENGTH_RATIO_MAX)

    def _length(self) -> float:
        """Return the mean of a prompt's tokens."""
        if self._real >= _REQUESTS_MIN and self._real_tokens > 0.0:
            return self._real_tokens / self._real
        return self._guessed_tokens / self._guessed if self._guessed >= 1.0 else 0.0

    def _late_share(self, goal: Goal) -> float:
        """Return the part of the tokens that came from engines too slow for the objective."""
        paces = [
            (one.interval_seconds, one.token_intervals)
            for one in self.growth.values()
            if one.interval_seconds is not None
        ]
        told = sum(tokens for _, tokens in paces)
        late = sum(
            tokens for pace, tokens in paces if pace is not None and pace > goal.tpot_seconds
        )
        return late / told if told else 0.0

    def _decay(self, at: float) -> None:
        since, self._looked_at = self._looked_at, at
        kept = 1.0 if since is None else math.exp(-max(0.0, at - since) / LENGTH_SECONDS)
        self._guessed *= kept
        self._guessed_tokens *= kept
        self._real *= kept
        self._real_tokens *= kept
        self._ended *= kept
        self._ended_tokens *= kept


def _allowed(engine: EngineGrowth, goal: Goal) -> float:
    """Return how long a first token of a prompt of the engine's mean length may take."""
    prompt = engine.prompt_tokens / engine.first_tokens if engine.first_tokens >= 1.0 else 0.0
    return goal.ttft_seconds + TTFT_SECONDS_PER_TOKEN * prompt


def _went_away(before: Arrivals, now: Arrivals) -> tuple[float, float]:
    requests = grown(before.away_requests, now.away_requests)
    return requests, grown(before.away_prompt_tokens, now.away_prompt_tokens)


def _arrived(before: Arrivals, now: Arrivals) -> tuple[float, float]:
    requests = grown(before.requests, now.requests)
    return requests, grown(before.prompt_tokens, now.prompt_tokens)
