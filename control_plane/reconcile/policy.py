"""The numbers reconciliation is bound by; main.py builds one from the settings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scheduler.problem import RegionLatency
from skerry.fleet.catalogue import Region
from skerry.fleet.deployment import FailBack


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
    # How many healthy replicas may go elsewhere within a minute, whatever the causes; what replaces
    # lost ones, and those that operators drain or move, do not count.
    moves_per_minute_max: int = 20
    # How long a plane that was lost must be heard without a break before anything moves back to it.
    settle_seconds: float = 60.0
    # Of deployments that do not say it.
    fail_back: FailBack = FailBack.BEST_SCORE
    # Above this share of silent planes we take the fault to be our own and freeze moves.
    silent_share_max: float = 0.5
    # How often the global loop of autoscaling decides.
    scaling_period_seconds: float = 30.0

    def grace_seconds(self) -> float:
        """Return how long after a start of the control plane nothing expires."""
        return max(2 * self.lease_seconds, self.reconnect_jitter_seconds + self.lease_seconds)


# Above this many planes heartbeats come half as often: most of a core goes to them.
LARGE_FLEET_PLANES = 1_000
LARGE_FLEET_PERIOD_SECONDS, LARGE_FLEET_TIMEOUT_SECONDS = 2.0, 6.0
# What planes spread their return over, as `workload_plane.link.session` has it.
RETURNS_PER_SECOND, RETURN_SECONDS_MAX = 150, 30.0


def policy_for(policy: ReconcilePolicy, planes: int) -> ReconcilePolicy:
    """Return the policy for a fleet of so many planes; what is set longer stays."""
    spread = min(RETURN_SECONDS_MAX, planes / RETURNS_PER_SECOND)
    jitter = max(policy.reconnect_jitter_seconds, spread)
    if planes <= LARGE_FLEET_PLANES:
        if jitter == policy.reconnect_jitter_seconds:
            return policy
        return replace(policy, reconnect_jitter_seconds=jitter)
    return replace(
        policy,
        reconnect_jitter_seconds=jitter,
        heartbeat_period_seconds=max(policy.heartbeat_period_seconds, LARGE_FLEET_PERIOD_SECONDS),
        heartbeat_timeout_seconds=max(
            policy.heartbeat_timeout_seconds, LARGE_FLEET_TIMEOUT_SECONDS
        ),
    )


def with_regions(policy: ReconcilePolicy, regions: Iterable[Region]) -> ReconcilePolicy:
    """Return the policy with the latencies of registered regions before those of the settings."""
    told = {(one.client_region, one.plane_region): one for one in policy.latencies}
    for region in regions:
        for client, seconds in region.client_latency_seconds:
            latency = RegionLatency(client_region=client, plane_region=region.name, seconds=seconds)
            told[client, region.name] = latency
    return replace(policy, latencies=tuple(told[pair] for pair in sorted(told)))
