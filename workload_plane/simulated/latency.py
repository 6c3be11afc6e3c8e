"""The latency model: how long one iteration takes, from what is computed in it and a seed.

Pure. Waiting is not in here: it comes of real requests in `workload_plane.simulated.model`.
"""

from workload_plane.simulated.config import SimulatedConfig

_MASK = (1 << 64) - 1
# Jitter of the first token and of iterations are drawn apart; so are errors.
_READY, _ITERATION, _ERROR = 1, 2, 3


def draw(*keys: int) -> float:
    """Return an evenly spread number in [0, 1) that depends on the keys only (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state ^ (key & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return float(state >> 11) / float(1 << 53)


def draw_error(config: SimulatedConfig, request: int) -> bool:
    """Return whether request number `request` is one that is answered with an error."""
    return config.error_rate > 0 and draw(config.seed, _ERROR, request) < config.error_rate


def ready_seconds(config: SimulatedConfig, *, request: int) -> float:
    """Return how long after its arrival request number `request` can be computed."""
    return config.ttft_seconds * _stretch(config, _READY, request)


def iteration_seconds(
    config: SimulatedConfig, *, batch: int, prefill: int, context: int, iteration: int
) -> float:
    """Return what iteration number `iteration` takes.

    `batch` requests get one token each and hold `context` tokens, and `prefill` tokens of prompts
    are computed beside them.
    """
    assert batch or prefill, "an iteration of nothing"
    seconds = prefill / config.prefill_tokens_per_second
    if batch:
        seconds += config.tpot_seconds + config.tpot_seconds_per_request * (batch - 1)
        seconds += config.tpot_seconds_per_context_token * context
    return seconds * _stretch(config, _ITERATION, iteration)


def _stretch(config: SimulatedConfig, kind: int, number: int) -> float:
    if not config.jitter:
        return 1.0
    return 1 + config.jitter * (2 * draw(config.seed, kind, number) - 1)
