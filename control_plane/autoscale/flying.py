"""What planes that count requests in flight ask for, each by itself and as one need. Pure.

`rounds.py` wants no less than that where there is no sum of token work, and records it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from control_plane.autoscale.shares import Loads
from skerry.fleet.autoscaling.concurrency import fallback_target
from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.autoscaling.splitting import PlaneShare
from skerry.fleet.deployment import Deployment

TOLERANCE = 1e-9  # of a replica: rounding errors start none


@dataclass(frozen=True, slots=True, kw_only=True)
class Flying:
    """What a plane's requests in flight ask for: how many replicas they keep busy and fill."""

    target: int  # its own, or what it was granted
    busy: float
    exact: float
    is_granted: bool = False

    @property
    def wants(self) -> int:
        """Return how many it is to have for its own requests: a grant is for those of others."""
        return self.replicas if self.is_granted else max(self.target, self.replicas)

    @property
    def replicas(self) -> int:
        """Return how many the rule asks for."""
        return math.ceil(self.exact - TOLERANCE)


def flying_at(
    deployment: Deployment, shares: Sequence[PlaneShare], loads: Loads
) -> dict[str, Flying]:
    """Return what the rule makes of what planes told, of those that count by concurrency."""
    scaling, found = deployment.scaling, {}
    for share in shares:
        report = loads.get(share.plane)
        load = report.of(deployment.name) if report is not None else None
        told = load.decision if load is not None else None
        if told is None or told.concurrency is None:
            continue
        each = scaling.concurrency_target
        if told.fallback:
            slots = deployment.revision.engine.concurrent_requests
            each = fallback_target(each, float(slots))
        busy = told.concurrency / each
        found[share.plane] = Flying(
            target=told.target,
            busy=busy,
            exact=busy / scaling.target_utilization,
            is_granted=told.because == Because.GRANTED,
        )
    return found


def need_of(deployment: Deployment, told: Mapping[str, Flying]) -> Need | None:
    """Return the needs of several planes as one, each rounded up by itself; None of none."""
    if not told:
        return None
    return Need(
        replicas=sum(one.replicas for one in told.values()),
        exact=math.fsum(one.exact for one in told.values()),
        work=math.fsum(one.busy for one in told.values()),
        reserve=0.0,
        queue=0.0,
        saturation=0.0,
        utilization=deployment.scaling.target_utilization,
    )


def helped(
    shares: Sequence[PlaneShare],
    told: Mapping[str, Flying],
    held: Mapping[str, int],
    tellers: Collection[str],
) -> tuple[tuple[str, int], ...]:
    """Return the targets of planes that have room for what others want beyond their ceilings.

    Their own rule counts the requests that reached them alone, and would leave the room empty that
    was placed for others. `held` are the targets until now: none falls while the wants of a plane
    that could tell them, one of `tellers`, are not known.
    """
    beyond = sum(
        max(0, told[one.plane].replicas - one.ceiling) for one in shares if one.plane in told
    )
    found: dict[str, int] = {}
    for share in sorted(shares, key=lambda one: (one.price_per_hour, one.plane)):
        if share.plane not in told:
            continue
        own = told[share.plane].replicas  # warm spares stand above all that, or help out
        taken = min(beyond, max(0, share.ceiling - own))
        if taken:
            found[share.plane] = own + taken
            beyond -= taken
    if any(one.plane in tellers and one.plane not in told and one.running for one in shares):
        for share in shares:
            if least := min(held.get(share.plane, 0), share.ceiling):
                found[share.plane] = max(found.get(share.plane, 0), least)
    return tuple(sorted(found.items()))
