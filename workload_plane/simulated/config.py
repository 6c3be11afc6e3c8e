"""The simulated engine's configuration: what it serves, its latency model, its faults.

`workload_plane.engines.simulated` writes the file; the values are checked here once. What each
value does is in docs/operating/simulated.md.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.simulated.answers import POISON_WORD, WORDS


class KvPolicy(StrEnum):
    """What happens when requests outgrow the KV cache; TensorRT-LLM's names, written our way."""

    GUARANTEED_NO_EVICT = "guaranteed-no-evict"  # starts what can surely finish
    MAX_UTILIZATION = "max-utilization"  # starts what fits now, and takes the last one out again


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedConfig:
    """One simulated engine; times in seconds, a fault's 0 means never.

    `ttft_seconds` passes before a request is ready to be computed; prompts are computed at
    `prefill_tokens_per_second`. One iteration with a batch of n takes `tpot_seconds` and n - 1
    times `tpot_seconds_per_request`, and `tpot_seconds_per_context_token` for each token that the
    batch holds; at most `batch_tokens_max` tokens are computed in it, and without
    `chunked_prefill` a prompt in one piece, even if it is longer. `jitter` is the part by
    which a time may be longer or shorter, `slow_factor` stretches every time.
    `kv_cache_tokens` 0 is room for all requests at their longest. A connection without a request is
    closed after `keep_alive_seconds`, 0 keeps it.
    """

    served_name: str
    host: str
    port: int
    concurrent_requests: int = 4
    queue_requests_max: int = 64
    context_tokens: int = 2048
    seed: int = 0
    startup_seconds: float = 0.0
    ttft_seconds: float = 0.02
    prefill_tokens_per_second: float = 20_000.0
    tpot_seconds: float = 0.01
    tpot_seconds_per_request: float = 0.001
    tpot_seconds_per_context_token: float = 0.0
    batch_tokens_max: int = 8192
    chunked_prefill: bool = True
    jitter: float = 0.1
    kv_cache_tokens: int = 0
    kv_block_tokens: int = 32
    kv_policy: KvPolicy = KvPolicy.GUARANTEED_NO_EVICT
    prefix_caching: bool = True
    keep_alive_seconds: int = 600  # longer than clients keep theirs, which so lose no request
    slow_factor: float = 1.0
    slow_after_requests: int = 0
    exit_at_start_code: int = 0
    fail_after_requests: int = 0
    fail_after_tokens: int = 0
    fail_on_word: str = ""
    fail_exit_code: int = 1
    hang_after_requests: int = 0
    stall_after_tokens: int = 0
    error_rate: float = 0.0
    unhealthy_after_requests: int = 0
    unhealthy: bool = False
    refuse_after_requests: int = 0
    refuse_seconds: float = 5.0
    leak_bytes_per_request: int = 0
    leak_bytes_max: int = 256 * 1024 * 1024
    ignore_sigterm: bool = False

    def __post_init__(self) -> None:
        for name in ("concurrent_requests", "context_tokens", "batch_tokens_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.kv_block_tokens < 1 or self.kv_cache_tokens < 0 or self.queue_requests_max < 0:
            raise ValueError("kv_block_tokens, kv_cache_tokens or queue_requests_max too small")
        if self.prefill_tokens_per_second <= 0 or self.slow_factor <= 0:
            raise ValueError("prefill_tokens_per_second and slow_factor must be above 0")
        for name in ("jitter", "error_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, not {getattr(self, name)}")
        KvPolicy(self.kv_policy)
        if self.fail_on_word and self.fail_on_word not in (*WORDS, POISON_WORD):
            raise ValueError(f"fail_on_word must be a word of the answers or {POISON_WORD!r}")

    @property
    def kv_blocks(self) -> int:
        """Return how many blocks the KV cache has."""
        if self.kv_cache_tokens:
            return max(1, self.kv_cache_tokens // self.kv_block_tokens)
        return self.concurrent_requests * -(-self.context_tokens // self.kv_block_tokens)

    @property
    def sequence_tokens_max(self) -> int:
        """Return how long prompt and answer may be together: no request outgrows the cache."""
        return min(self.context_tokens, self.kv_blocks * self.kv_block_tokens)


def read_config(path: Path) -> SimulatedConfig:
    """Return the file's configuration; raises NotFound or InvalidInput with the remedy."""
    try:
        return SimulatedConfig(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; --config names the JSON configuration") from None
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is no configuration of this engine: {error}") from None
