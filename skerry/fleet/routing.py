"""How a deployment's requests find a replica, and how long one waits while there is none for it.

Of the deployment, not of a revision: another routing starts no engine.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from skerry.fleet.engine import EngineProtocol

# A request that waits holds its body (up to megabytes) in the gateway of a plane.
QUEUE_REQUESTS_MAX = 4_096
# Loading the largest base model from a disk takes minutes; nobody holds a connection longer.
QUEUE_SECONDS_MAX = 600.0


class RoutingPolicy(StrEnum):
    """What decides between a deployment's replicas."""

    PREFIX_TOKENS = "prefix_tokens"  # cached prefix and pending prefill tokens
    LEAST_TOKENS = "least_tokens"  # pending tokens only
    LEAST_REQUEST = "least_request"  # requests in flight
    SESSION = "session"  # the same session to the same replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Which policy chooses, whether broken streams go on elsewhere, and the queue's bounds.

    A queue of 0 requests holds none: a request without a replica is answered at once.
    """

    policy: RoutingPolicy = RoutingPolicy.PREFIX_TOKENS
    continuation: bool = False
    queue_requests_max: int = 128
    queue_seconds_max: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.queue_requests_max <= QUEUE_REQUESTS_MAX:
            raise ValueError(
                f"queue_requests_max must be 0..{QUEUE_REQUESTS_MAX}, not {self.queue_requests_max}"
            )
        seconds = self.queue_seconds_max
        if not (math.isfinite(seconds) and 0.0 < seconds <= QUEUE_SECONDS_MAX):
            raise ValueError(
                f"queue_seconds_max must be above 0 and at most {QUEUE_SECONDS_MAX:g},"
                f" not {seconds}"
            )


def continuation_fault(continuation: bool, protocol: str) -> str:
    """Return why streams of that engine's protocol cannot be continued, "" where they can.

    Asked before a deployment is taken, not by the values: one that was stored before goes on.
    """
    if not continuation or protocol != EngineProtocol.TRTLLM:
        return ""
    return (
        f"streams of `engine.protocol: {protocol}` are passed through byte for byte and cannot go"
        " on elsewhere; leave it out, or choose protocol http or openengine"
    )
