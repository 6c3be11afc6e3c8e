"""The simulated engine's scheduler: continuous batching, one iteration after the other.

Pure: it is told the time and never waits; `workload_plane.simulated.engine` wakes it when the next
iteration ends. An iteration computes one token for every request in the batch and, within
`batch_tokens_max`, pieces of the prompts that are still to be computed (chunked prefill).
"""

import math
from collections import deque

from skerry.plumbing.errors import Exhausted
from workload_plane.simulated.config import KvPolicy, SimulatedConfig
from workload_plane.simulated.kv_blocks import KvBlocks
from workload_plane.simulated.latency import iteration_seconds, ready_seconds

# After a pause of the machine there is much to catch up with: sockets have their turn in between.
TOKENS_AT_ONCE_MAX = 2048
# Only for the advice when to come back: an answer of middle length.
_ANSWER_TOKENS_USUAL = 40


class Sequence:
    """One request inside the engine; the model alone writes here.

    `output_tokens` is how long its answer gets, `limit_tokens` how long it might have got: that
    much is reserved under guaranteed-no-evict. `keys` are its prompt's whole blocks.
    """

    __slots__ = (
        "arrived_at",
        "cached_tokens",
        "computed",
        "finished_at",
        "first_token_at",
        "generated",
        "keys",
        "limit_tokens",
        "number",
        "output_tokens",
        "preemptions",
        "private_blocks",
        "prompt_tokens",
        "ready_at",
        "shared_keys",
        "started_at",
    )

    def __init__(
        self,
        number: int,
        *,
        prompt_tokens: int,
        output_tokens: int,
        limit_tokens: int,
        keys: tuple[int, ...] = (),
    ) -> None:
        """Describe a request that no engine has taken yet."""
        assert prompt_tokens >= 1
        assert 1 <= output_tokens <= limit_tokens
        self.number = number
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.limit_tokens = limit_tokens
        self.keys = keys
        self.arrived_at = self.ready_at = 0.0
        self.started_at = self.first_token_at = self.finished_at = -1.0
        self.generated = 0
        self.computed = 0
        self.cached_tokens = 0
        self.preemptions = 0
        self.private_blocks = 0
        self.shared_keys: list[int] = []

    @property
    def context_tokens(self) -> int:
        """Return how many tokens it holds: the prompt and what has been generated."""
        return self.prompt_tokens + self.generated


class EngineModel:
    """Requests that wait, requests that run, the KV cache, and the iteration under way."""

    def __init__(self, config: SimulatedConfig) -> None:
        """Start with nothing to do."""
        self.config = config
        self.kv = KvBlocks(config.kv_blocks)
        self.slow_factor = 1.0 if config.slow_after_requests else config.slow_factor
        self.waiting: deque[Sequence] = deque()
        self._prefilling: dict[Sequence, None] = {}
        self._decoding: dict[Sequence, None] = {}
        self._chunks: list[tuple[Sequence, int]] = []
        self._batch: list[Sequence] = []
        self._ends_at: float | None = None
        self._time = -math.inf
        self._reserves = config.kv_policy == KvPolicy.GUARANTEED_NO_EVICT
        self.iterations_total = 0
        self._computed_total = 0  # tokens and pieces of prompts, of aborted requests too
        self.generated_total = 0
        self.prompt_total = 0
        self.cached_total = 0
        self.preempted_total = 0

    @property
    def running(self) -> int:
        """Return how many requests are in the batch."""
        return len(self._decoding) + len(self._prefilling)

    def prompt_tokens_left(self) -> int:
        """Return how many tokens of prompts are still to be computed, by what is cached now."""
        left = sum(s.context_tokens - s.computed for s in self._prefilling)
        size = self.config.kv_block_tokens
        for sequence in self.waiting:
            left += sequence.context_tokens - size * self.kv.matching(sequence.keys)
        return left

    def submit(self, sequence: Sequence, now: float) -> None:
        """Put the request into the queue; raises Exhausted when that is full."""
        config = self.config
        free = config.concurrent_requests - self.running
        if len(self.waiting) - free >= config.queue_requests_max:
            raise Exhausted(
                f"{self.running} requests run and {len(self.waiting)} wait, which is all this"
                " engine takes; try again later or elsewhere",
                retry_after_seconds=self._retry_after_seconds(),
            )
        assert sequence.prompt_tokens + sequence.limit_tokens <= config.sequence_tokens_max
        sequence.arrived_at = now
        wait = ready_seconds(config, request=sequence.number) * self.slow_factor
        sequence.ready_at = now + wait
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Take the request out and free its blocks now, wherever it is; may be repeated."""
        if sequence in self._decoding:
            del self._decoding[sequence]
        elif sequence in self._prefilling:
            del self._prefilling[sequence]
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
            return
        else:
            return
        self._free_blocks(sequence)

    def next_due(self) -> float | None:
        """Return when `advance` has something to do, None when only a new request can tell."""
        if self._ends_at is not None:
            return self._ends_at
        if self.running:
            return self._time  # it stopped in between, having done enough at once
        return max(self._time, self.waiting[0].ready_at) if self.waiting else None

    def advance(self, now: float, tokens_max: int = TOKENS_AT_ONCE_MAX) -> list[Sequence]:
        """Run the iterations that end until `now`; return who got tokens, once each.

        Those with all of their tokens are out of the engine. After `tokens_max` it stops for now.
        """
        touched: dict[Sequence, None] = {}
        enough = self._computed_total + tokens_max
        while self._computed_total < enough:
            if self._ends_at is None and not self._begin(now):
                break
            assert self._ends_at is not None
            if self._ends_at > now:
                break
            self._end(self._ends_at, touched)
        return list(touched)

    def _begin(self, now: float) -> bool:
        """Start the next iteration, at the end of the last or when there is work; say if so."""
        start = self._time
        if not self.running:
            if not self.waiting:
                return False
            start = max(start, self.waiting[0].ready_at)
            if start > now:
                return False
        if self._reserves or not self._grow():
            self._admit(start)
        self._batch = list(self._decoding)
        prefill = self._cut_chunks()
        seconds = iteration_seconds(
            self.config,
            batch=len(self._batch),
            prefill=prefill,
            context=self._context_tokens() if self.config.tpot_seconds_per_context_token else 0,
            iteration=self.iterations_total,
        )
        self._ends_at = start + seconds * self.slow_factor
        return True

    def _end(self, at: float, touched: dict[Sequence, None]) -> None:
        self.iterations_total += 1
        self._computed_total += len(self._batch) + len(self._chunks)
        self._time = at
        self._ends_at = None
        done: list[Sequence] = []
        decoding = self._decoding
        for sequence in self._batch:
            if sequence in decoding:  # or it was aborted meanwhile
                count = sequence.generated = sequence.generated + 1
                self.generated_total += 1
                touched[sequence] = None
                if count == sequence.output_tokens:
                    done.append(sequence)
        for sequence, chunk in self._chunks:
            if sequence in self._prefilling:
                sequence.computed += chunk
                if sequence.computed == sequence.context_tokens:
                    self._end_prefill(sequence, at)
                    touched[sequence] = None
                    if sequence.generated == sequence.output_tokens:
                        done.append(sequence)
        for sequence in done:
            sequence.finished_at = at
            del decoding[sequence]
            self._free_blocks(sequence)

    def _end_prefill(self, sequence: Sequence, at: float) -> None:
        """Give the first token, and let others use the prompt's blocks."""
        del self._prefilling[sequence]
        self._decoding[sequence] = None
        if sequence.first_token_at < 0:
            sequence.first_token_at = at
            self.prompt_total += sequence.prompt_tokens
            self.cached_total += sequence.cached_tokens
        sequence.generated += 1
        self.generated_total += 1
        published = self.kv.publish(sequence.keys[len(sequence.shared_keys) :])
        sequence.shared_keys += published
        sequence.private_blocks -= len(published)

    def _admit(self, at: float) -> None:
        """Let requests in, first come first served, while there are slots and blocks."""
        waiting = self.waiting
        while waiting and self.running < self.config.concurrent_requests:
            if waiting[0].ready_at > at or not self._take_blocks(waiting[0]):
                return
            sequence = waiting.popleft()
            if sequence.started_at < 0:
                sequence.started_at = at
            self._prefilling[sequence] = None

    def _take_blocks(self, sequence: Sequence) -> bool:
        size = self.config.kv_block_tokens
        # At least one token has to be computed: the answer begins from its result.
        usable = sequence.keys[: (sequence.prompt_tokens - 1) // size]
        matching = self.kv.matching(usable)
        if self._reserves:
            tokens = sequence.prompt_tokens + sequence.limit_tokens
        else:
            tokens = sequence.context_tokens + 1
        blocks = -(-tokens // size)
        if not self.kv.take(usable[:matching], blocks - matching):
            return False
        self.kv.reused_total += matching
        self.kv.missed_total += -(-sequence.prompt_tokens // size) - matching
        sequence.shared_keys = list(usable[:matching])
        sequence.private_blocks = blocks - matching
        sequence.computed = matching * size
        if sequence.first_token_at < 0:
            sequence.cached_tokens = matching * size
        return True

    def _grow(self) -> bool:
        """Give each request of the batch room for its next token; say if one was put back for it.

        The oldest is never put back: alone it has room for its longest answer.
        """
        size = self.config.kv_block_tokens
        before = self.preempted_total
        for sequence in list(self._decoding):
            while sequence in self._decoding:
                blocks = len(sequence.shared_keys) + sequence.private_blocks
                if sequence.context_tokens + 1 <= blocks * size:
                    break
                if self.kv.take((), 1):
                    sequence.private_blocks += 1
                else:
                    self._preempt()
        return self.preempted_total > before

    def _preempt(self) -> None:
        """Put the youngest request back to the front of the queue; it is computed again."""
        sequence = max((*self._prefilling, *self._decoding), key=lambda s: s.number)
        self._prefilling.pop(sequence, None)
        self._decoding.pop(sequence, None)
        self._free_blocks(sequence)
        sequence.preemptions += 1
        self.preempted_total += 1
        self.waiting.appendleft(sequence)

    def _cut_chunks(self) -> int:
        """Choose what is computed of the prompts; return how many tokens."""
        self._chunks = []
        room = self.config.batch_tokens_max - len(self._batch)
        # A batch as large as the limit would starve every prompt: one token goes always.
        room = max(room, 1)
        total = 0
        for sequence in self._prefilling:
            if total >= room:
                break
            chunk = sequence.context_tokens - sequence.computed
            if chunk > room - total:
                if self.config.chunked_prefill:
                    chunk = room - total
                elif total:
                    break
            self._chunks.append((sequence, chunk))
            total += chunk
        return total

    def _free_blocks(self, sequence: Sequence) -> None:
        self.kv.release(sequence.shared_keys, sequence.private_blocks)
        sequence.shared_keys = []
        sequence.private_blocks = 0

    def _context_tokens(self) -> int:
        return sum(sequence.context_tokens for sequence in self._batch)

    def _retry_after_seconds(self) -> float:
        config = self.config
        each = config.ttft_seconds + _ANSWER_TOKENS_USUAL * config.tpot_seconds
        rounds = 1 + len(self.waiting) // config.concurrent_requests
        return float(max(1, math.ceil(rounds * each * self.slow_factor)))
