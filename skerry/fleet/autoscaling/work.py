"""Work in replicas: how many seconds of a replica the requests of one second cost. Pure.

`estimate` weighs a view by an engine's coefficients; `need` turns the result into replicas.
"""

from dataclasses import dataclass

from skerry.fleet.autoscaling.load import LoadView
from skerry.fleet.coefficients import Coefficients

# Until answers have ended, what they will be: chat's usual length in the published traces.
OUTPUT_TOKENS_PRIOR = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a replica's requests cost it, and how many it computes at once within its objective."""

    coefficients: Coefficients
    batch: float

    def __post_init__(self) -> None:
        """Refuse a batch of less than one request."""
        if not self.batch >= 1.0:
            raise ValueError(f"batch must be at least 1, not {self.batch}")


def engine_of(coefficients: Coefficients, concurrent_requests: int, tpot_seconds: float) -> Engine:
    """Return an engine whose batch is the largest that still makes a token each in time."""
    decode = coefficients.decode_seconds_per_token
    room = tpot_seconds - coefficients.iteration_seconds
    batch = room / decode if decode > 0.0 else float(concurrent_requests)
    return Engine(coefficients=coefficients, batch=max(1.0, min(batch, concurrent_requests)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a view costs, in replicas that are never idle: the last seconds, minutes, the queue.

    `queued_seconds` are of one replica; `saturation` is how many replicas the requests in flight
    would fill.
    """

    short: float
    long: float
    queued_seconds: float
    saturation: float
    output_tokens: float

    @property
    def rate(self) -> float:
        """Return the larger of the two means: up with the short one, down with the long one."""
        return max(self.short, self.long)


def estimate(view: LoadView, engine: Engine) -> Work:
    """Return the work of a view on replicas of that engine."""
    tokens = view.output_tokens_mean
    tokens = OUTPUT_TOKENS_PRIOR if tokens is None else tokens
    cost = engine.coefficients.work_seconds

    def of(prompt_tokens: float, requests: float) -> float:
        return cost(prompt_tokens, requests * tokens, engine.batch)

    return Work(
        short=of(view.prompt_tokens_short, view.requests_short),
        long=of(view.prompt_tokens_long, view.requests_long),
        queued_seconds=of(view.waiting_prompt_tokens, view.waiting_requests),
        saturation=view.in_flight_short / engine.batch,
        output_tokens=tokens,
    )
