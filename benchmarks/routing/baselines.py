"""The policies that the picker is measured beside, each by its published rule.

They know of load what a gateway in their place would: requests in flight, counted exactly.
"""

import math
import random
from collections.abc import Sequence
from hashlib import blake2b

from benchmarks.routing.trace import BLOCK_TOKENS, Asked
from workload_plane.simulated.model import EngineModel

SESSION_BLOCKS = 4  # the first 2,048 tokens are the session's key
SESSION_BOUND = 1.25
_BUSY_TOKENS = 32  # what a running answer costs a prompt beside it, as the picker takes it too


class InFlight:
    """Counts requests; the beginning of every policy here."""

    def __init__(self, engines: int) -> None:
        """Begin idle."""
        self.counts = [0] * engines

    def began(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in nothing: a count does not change when an answer begins."""

    def ended(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Count one less."""
        self.counts[engine] -= 1


class Random:
    """Any engine."""

    name = "random"

    def __init__(self, engines: int, seed: int = 1) -> None:
        """Seed the dice."""
        self._engines = engines
        self._chance = random.Random(seed)

    def pick(self, asked: Asked, now: float) -> int:
        """Return any engine."""
        return self._chance.randrange(self._engines)

    def began(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in nothing."""

    def ended(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in nothing."""


class LeastRequest:
    """The engine with the fewest requests in flight, of all and not of two: Envoy's at its best."""

    name = "least_request"

    def __init__(self, engines: int) -> None:
        """Begin idle."""
        self._load = InFlight(engines)
        self._turn = 0
        self.began, self.ended = self._load.began, self._load.ended

    def pick(self, asked: Asked, now: float) -> int:
        """Return the least loaded, ties in turn."""
        counts = self._load.counts
        self._turn += 1
        engines = len(counts)
        engine = min(range(engines), key=lambda i: (counts[i], (i - self._turn) % engines))
        counts[engine] += 1
        return engine


class SessionHash:
    """The session's own order of engines, the first that is not above 1.25 of the mean."""

    name = "session_hash"

    def __init__(self, engines: int) -> None:
        """Begin idle."""
        self._load = InFlight(engines)
        self.began, self.ended = self._load.began, self._load.ended

    def pick(self, asked: Asked, now: float) -> int:
        """Return the session's engine, or the next in its order."""
        counts = self._load.counts
        key = asked.keys[:SESSION_BLOCKS][-1] if asked.keys else -asked.number
        bound = math.ceil(SESSION_BOUND * (sum(counts) + 1) / len(counts))
        order = sorted(range(len(counts)), key=lambda engine: _mix(key, engine))
        engine = next(engine for engine in order if counts[engine] < bound)
        counts[engine] += 1
        return engine


class CacheAware:
    """The cache-aware rule of SGLang's router and of SMG, which came of it.

    While loads differ by more than `balance_abs` and by more than `balance_rel` times: the least
    loaded. Else the engine with the longest known prefix, if that is more than `threshold` of the
    prompt; else the least loaded (SMG) or the one with the smallest tree (SGLang). Sources:
    lightseekorg/smg docs/concepts/routing/cache-aware.md (defaults 64, 1.5, 0.3; least loaded) and
    sgl-project/sglang sgl-router/src/policies/cache_aware.rs (smallest tree). Their tree's
    limit, 64 million nodes, is not reached here.
    """

    def __init__(self, engines: int, *, name: str, by_tree: bool) -> None:
        """Begin idle, with SMG's published defaults."""
        self.name = name
        self._by_tree = by_tree
        self._load = InFlight(engines)
        self.began, self.ended = self._load.began, self._load.ended
        self._threshold, self._balance_abs, self._balance_rel = 0.3, 64, 1.5
        # Which engines were sent the block, the latest last.
        self._owners: dict[int, dict[int, None]] = {}
        self._sizes = [0] * engines

    def pick(self, asked: Asked, now: float) -> int:
        """Return the engine by the rule, and put the prompt into its tree."""
        counts = self._load.counts
        high, low = max(counts), min(counts)
        least = counts.index(low)
        if high - low > self._balance_abs and high > self._balance_rel * low:
            engine = least
        else:
            matched, owner = self._match(asked.keys)
            if matched * BLOCK_TOKENS > self._threshold * asked.tokens:
                engine = owner
            elif self._by_tree:
                engine = self._sizes.index(min(self._sizes))
            else:
                engine = least
        self._insert(asked.keys, engine)
        counts[engine] += 1
        return engine

    def _match(self, keys: Sequence[int]) -> tuple[int, int]:
        owner = 0
        for number, key in enumerate(keys):
            owners = self._owners.get(key)
            if not owners:
                return number, owner
            owner = next(reversed(owners))
        return len(keys), owner

    def _insert(self, keys: Sequence[int], engine: int) -> None:
        for key in keys:
            owners = self._owners.setdefault(key, {})
            if engine in owners:
                del owners[engine]
            else:
                self._sizes[engine] += 1
            owners[engine] = None


class ExactKvAware:
    """Knows what no gateway can: every engine's cache and queue at this moment.

    The engine that would have read the prompt first, as far as the tokens to read before it tell.
    """

    name = "exact_kv_aware"

    def __init__(self, engines: Sequence[EngineModel]) -> None:
        """Look into these engines."""
        self._engines = engines

    def pick(self, asked: Asked, now: float) -> int:
        """Return the engine with the fewest tokens to compute until the first of the answer."""
        costs = []
        for number, engine in enumerate(self._engines):
            cached = engine.kv.matching(asked.keys) * BLOCK_TOKENS
            busy = engine.running + len(engine.waiting)
            before = engine.prompt_tokens_left() + _BUSY_TOKENS * busy
            costs.append((before - min(cached, asked.tokens), busy, number))
        return min(costs)[2]

    def began(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in nothing: it sees all."""

    def ended(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Take in nothing: it sees all."""


def _mix(key: int, engine: int) -> bytes:
    return blake2b(f"{key}/{engine}".encode(), digest_size=8).digest()
