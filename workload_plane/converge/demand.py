"""What is asked for: the input by which a deployment at zero gets its first replica. PURE.

`plan` calls `woken`. The autoscaler counts the same requests every few seconds; this is the part
that must not wait for it: requests are being held.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from skerry.fleet.observation import Unknown
from skerry.fleet.placement import Envelope

# How long a replica that was started for a request stays without one. A start takes minutes for
# a large base model, so the first pause between two users must not end it.
IDLE_SECONDS_MAX = 300.0
# Whatever the scale-down delay is: who waited is sent to it within the picker's next looks.
WOKEN_SECONDS_MIN = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDemand:
    """Requests that wait for one deployment, and how long ago anybody last asked for it."""

    waiting: int = 0
    idle_seconds: float = float("inf")


Demand = Mapping[str, DeploymentDemand] | Unknown


def woken(
    envelopes: Sequence[Envelope],
    running: Collection[str],
    demand: Demand,
    idle_seconds_max: float = IDLE_SECONDS_MAX,
) -> dict[str, int]:
    """Return the pool that is to run one replica of a deployment whose targets are all zero.

    None of them while nobody waits for it or no ceiling allows it; what runs already stays while
    anybody asks, also if a peer answers, and `idle_seconds_max` longer. `running` are the pools
    that have a replica: one of them before another. With demand unknown what runs goes on, for
    nothing heard is not nothing asked.
    """
    allowed = [envelope for envelope in envelopes if envelope.ceiling > 0]
    if not allowed or any(envelope.target for envelope in envelopes):
        return {}
    pools = sorted((one.pool for one in allowed), key=lambda pool: (pool not in running, pool))
    if isinstance(demand, Unknown):
        return {pools[0]: 1} if pools[0] in running else {}
    asked = demand.get(allowed[0].deployment, DeploymentDemand())
    is_kept = pools[0] in running and asked.idle_seconds < idle_seconds_max
    return {pools[0]: 1} if asked.waiting or is_kept else {}
