"""Simulated engines under a virtual clock, a policy in front of them, and what comes of it.

The engines are the simulated engine's own batching model with its prefix cache; only time is not
real. A policy is told what a gateway is told, when it is told it.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.routing.trace import BLOCK_TOKENS, Asked
from skerry.plumbing.errors import Exhausted
from workload_plane.simulated.config import SimulatedConfig
from workload_plane.simulated.model import EngineModel
from workload_plane.simulated.model import Sequence as Running

# A 70B base model on four H100, 8 bits, as far as one line each can tell: prompts at 8,000 tokens
# a second, 25 ms a token and 0.3 ms more for each other request of the batch.
ENGINE: dict[str, Any] = {
    "prefill_tokens_per_second": 8_000.0,
    "tpot_seconds": 0.025,
    "tpot_seconds_per_request": 0.0003,
    "ttft_seconds": 0.01,
    "batch_tokens_max": 8_192,
    "concurrent_requests": 64,
    "queue_requests_max": 100_000,
    "context_tokens": 262_144,
    "kv_block_tokens": BLOCK_TOKENS,
    "jitter": 0.0,
}
# How often Envoy tells of a stream under way, and how late its log comes.
LOG_SECONDS, LOG_DELAY_SECONDS = 2.0, 0.02


class Policy(Protocol):
    """What chooses an engine; `engines` is for the oracle alone."""

    name: str

    def pick(self, asked: Asked, now: float) -> int:
        """Return the index of the engine that gets the request."""
        ...

    def began(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in, when the log tells it, that the answer had begun after `ttft` seconds."""
        ...

    def ended(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in that the answer is whole."""
        ...


@dataclass(slots=True)
class Outcome:
    """What came of one run, in the order of the requests; times in seconds."""

    ttft: list[float] = field(default_factory=list)
    e2e: list[float] = field(default_factory=list)
    cached_tokens: int = 0
    prompt_tokens: int = 0
    per_engine: list[int] = field(default_factory=list)
    refused: int = 0


class World:
    """Engines whose time is told to them."""

    def __init__(self, engines: int, kv_cache_tokens: int) -> None:
        """Start engines with empty caches."""
        config = SimulatedConfig(
            served_name="m", host="", port=0, kv_cache_tokens=kv_cache_tokens, **ENGINE
        )
        self.engines = [EngineModel(config) for _ in range(engines)]
        self._due: list[tuple[float, int]] = []
        self._told: list[tuple[float, int, int]] = []
        self._running: dict[Running, tuple[Asked, int]] = {}
        self._asked: dict[int, Running] = {}

    def run(self, asked: Sequence[Asked], policy: Policy) -> Outcome:
        """Send every request and wait for every answer."""
        outcome = Outcome(per_engine=[0] * len(self.engines))
        for request in asked:
            self._pass_time(request.at, policy, outcome)
            engine = policy.pick(request, request.at)
            self._submit(request, engine, outcome)
        self._pass_time(float("inf"), policy, outcome)
        return outcome

    def _submit(self, request: Asked, engine: int, outcome: Outcome) -> None:
        model = self.engines[engine]
        running = Running(
            request.number,
            prompt_tokens=request.tokens,
            output_tokens=request.output,
            limit_tokens=request.output,
            keys=request.keys,
        )
        outcome.per_engine[engine] += 1
        try:
            model.submit(running, request.at)
        except Exhausted:
            outcome.refused += 1
            return
        self._running[running] = (request, engine)
        self._asked[request.number] = running
        heapq.heappush(self._told, (request.at + LOG_SECONDS, request.number, engine))
        self._wake(engine)

    def _wake(self, engine: int) -> None:
        due = self.engines[engine].next_due()
        if due is not None:
            heapq.heappush(self._due, (due, engine))

    def _pass_time(self, until: float, policy: Policy, outcome: Outcome) -> None:
        while True:
            due = self._due[0][0] if self._due else float("inf")
            told = self._told[0][0] if self._told else float("inf")
            if min(due, told) > until or min(due, told) == float("inf"):
                return
            if told <= due:
                self._tell(policy)
                continue
            at, engine = heapq.heappop(self._due)
            # Of several wakings at one moment the first does all.
            model = self.engines[engine]
            if (next_due := model.next_due()) is None or next_due > at:
                continue
            for running in model.advance(at):
                if running.finished_at >= 0:
                    self._finish(running, at, outcome)
            self._wake(engine)

    def _finish(self, running: Running, now: float, outcome: Outcome) -> None:
        request, engine = self._running.pop(running)
        outcome.ttft.append(running.first_token_at - request.at)
        outcome.e2e.append(running.finished_at - request.at)
        outcome.cached_tokens += running.cached_tokens
        outcome.prompt_tokens += running.prompt_tokens
        heapq.heappush(self._told, (now + LOG_DELAY_SECONDS, request.number, ~engine))

    def _tell(self, policy: Policy) -> None:
        """Give the policy one line of the access log: of an end, or of a stream under way."""
        now, number, engine = heapq.heappop(self._told)
        running = self._asked.get(number)
        if running is None:
            return
        if engine >= 0 and running.finished_at >= 0:
            return  # its end is told in a moment
        request_at = running.arrived_at
        ttft = running.first_token_at - request_at
        asked = Asked(
            number, request_at, running.prompt_tokens, running.output_tokens, running.keys
        )
        if engine < 0:
            del self._asked[number]
            policy.ended(asked, ~engine, ttft, now)
            return
        if running.first_token_at >= 0:
            policy.began(asked, engine, ttft, now)
        else:
            policy.began(asked, engine, -1.0, now)
        heapq.heappush(self._told, (now + LOG_SECONDS, number, engine))
