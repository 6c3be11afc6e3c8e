"""The latency model: time to first token and per token, from prompt, batch and a seed.

Pure. The wait for a slot is not in here: it comes from real requests in a real queue.
"""

from workload_plane.simulated.config import SimulatedConfig

_MASK = (1 << 64) - 1


def draw(*keys: int) -> float:
    """Return an evenly spread number in [0, 1) that depends on the keys only (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state ^ (key & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return float(state >> 11) / float(1 << 53)


def ttft_seconds(config: SimulatedConfig, *, prompt_tokens: int, request: int) -> float:
    """Return the time from the slot to the first token of request number `request`."""
    seconds = config.ttft_seconds + prompt_tokens / config.prefill_tokens_per_second
    return seconds * _stretch(config, request, 0)


def tpot_seconds(config: SimulatedConfig, *, batch: int, request: int, token: int) -> float:
    """Return the time to one further token with `batch` requests in the same step."""
    assert batch >= 1
    seconds = config.tpot_seconds + config.tpot_seconds_per_request * (batch - 1)
    return seconds * _stretch(config, request, token)


def _stretch(config: SimulatedConfig, request: int, token: int) -> float:
    jitter = config.jitter * (2 * draw(config.seed, request, token) - 1)
    return config.slow_factor * (1 + jitter)
