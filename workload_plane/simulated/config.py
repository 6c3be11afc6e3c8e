"""The simulated engine's configuration: what it serves, its latency model, its faults.

`workload_plane.engines.simulated` writes the file; the values are checked here once.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedConfig:
    """One simulated engine; times in seconds, a fault's 0 means never.

    `fail_after_requests`: the process ends on the request after so many. `hang_after_requests`:
    from then on nothing is answered any more, the health check included. `slow_factor` stretches
    every time. `jitter` is the part by which a time may be longer or shorter.
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
    jitter: float = 0.1
    slow_factor: float = 1.0
    fail_after_requests: int = 0
    hang_after_requests: int = 0

    def __post_init__(self) -> None:
        if self.concurrent_requests < 1 or self.context_tokens < 1 or self.queue_requests_max < 0:
            raise ValueError("concurrent_requests, context_tokens or queue_requests_max too small")
        if self.prefill_tokens_per_second <= 0 or self.slow_factor <= 0:
            raise ValueError("prefill_tokens_per_second and slow_factor must be above 0")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be in 0..1, not {self.jitter}")


def read_config(path: Path) -> SimulatedConfig:
    """Return the file's configuration; raises NotFound or InvalidInput with the remedy."""
    try:
        return SimulatedConfig(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; --config names the JSON configuration") from None
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is no configuration of this engine: {error}") from None
