"""The numbers reconciliation is bound by; main.py builds one from the settings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scheduler.problem import RegionLatency
from skerry.fleet.catalogue import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePolicy:
    """Times in seconds. Defaults are for fleets below 1,000 planes (design, section 5).

    `reconnect_jitter_seconds` is what planes spread their reconnects over; after a start of the
    control plane nothing expires for max(two leases, jitter + lease).
    """

    heartbeat_period_seconds: float = 1.0
    heartbeat_timeout_seconds: float = 3.0
    lease_seconds: float = 8.0
    reconnect_jitter_seconds: float = 2.0
    witnesses_min: int = 2
    # What starting a replica elsewhere counts for, spread over a day: no fleet moves for cents.
    move_cost_dollars: float = 1.0
    # How many healthy replicas one plan may send elsewhere; None: as many as pay off.
    moves_max: int | None = None
    # Of every pool, room for surge and failover that ceilings may not use.
    reserve_fraction: float = 0.0
    # What is not told here is not met: a latency limit rules such a region out.
    latencies: tuple[RegionLatency, ...] = ()
    # Plans wait for an operator's approval; until then what runs is kept as it is.
    advisory: bool = False
    # Above this share of silent planes we take the fault to be our own and freeze moves.
    silent_share_max: float = 0.5

    def grace_seconds(self) -> float:
        """Return how long after a start of the control plane nothing expires."""
        return max(2 * self.lease_seconds, self.reconnect_jitter_seconds + self.lease_seconds)


def with_regions(policy: ReconcilePolicy, regions: Iterable[Region]) -> ReconcilePolicy:
    """Return the policy with the latencies of registered regions before those of the settings."""
    told = {(one.client_region, one.plane_region): one for one in policy.latencies}
    for region in regions:
        for client, seconds in region.client_latency_seconds:
            latency = RegionLatency(client_region=client, plane_region=region.name, seconds=seconds)
            told[client, region.name] = latency
    return replace(policy, latencies=tuple(told[pair] for pair in sorted(told)))
