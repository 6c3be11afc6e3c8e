"""What operators had said of pools and regions, as far as what runs there tells it. Pure.

No plane holds the terms of pools or how far users are. Without them a deployment that takes spot
capacity only, or has a latency limit, would be allowed nowhere, and what runs of it would end.
"""

from collections.abc import Iterable, Mapping

from control_plane.recovery.assess import Facts, Told
from skerry.fleet.catalogue import Region
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.pool import CapacityClass, PoolTerms

DESCRIPTION = "as far as deployments tell that run there; adopted when the database was recovered"


def inferred_terms(
    policies: Mapping[str, PlacementPolicy], told: Iterable[Told]
) -> tuple[tuple[str, PoolTerms], ...]:
    """Return the class of each pool whose deployments rule the default one out; its price is lost.

    A pool with deployments that agree on no class is left out.
    """
    allowed: dict[str, frozenset[str]] = {}
    for deployment, pool, _ in _runs(told):
        if policy := policies.get(deployment):
            classes = frozenset(policy.capacity_classes)
            if classes:
                allowed[pool] = allowed.get(pool, classes) & classes
    found = []
    for pool, classes in sorted(allowed.items()):
        known = [one for one in CapacityClass if one.value in classes]
        if known and CapacityClass.ON_DEMAND not in known:
            found.append((pool, PoolTerms(capacity_class=known[0])))
    return tuple(found)


def inferred_regions(facts: Facts, policies: Mapping[str, PlacementPolicy]) -> tuple[Region, ...]:
    """Return the regions in which deployments with latency limits run: within them, that is."""
    identities = {plane.name: plane.identity for plane in facts.snapshot.planes}
    seconds: dict[str, dict[str, float]] = {}
    for deployment, _, plane in _runs(facts.told.values()):
        policy, identity = policies.get(deployment), identities.get(plane)
        for limit in policy.latency if policy and identity else ():
            assert identity is not None, "asked above"
            clients = seconds.setdefault(f"{identity.cloud}/{identity.region}", {})
            known = clients.get(limit.client_region, limit.seconds_max)
            clients[limit.client_region] = min(known, limit.seconds_max)
    told = {(one.client_region, one.plane_region) for one in facts.snapshot.policy.latencies}
    regions = []
    for name, clients in sorted(seconds.items()):
        # What settings tell of it holds: it is not in the database.
        unknown = {
            client: bound
            for client, bound in clients.items()
            if (client, name) not in told and (client, name.partition("/")[2]) not in told
        }
        if unknown:
            latencies = tuple(sorted(unknown.items()))
            regions.append(
                Region(name=name, description=DESCRIPTION, client_latency_seconds=latencies)
            )
    return tuple(regions)


def _runs(told: Iterable[Told]) -> Iterable[tuple[str, str, str]]:
    """Return (deployment, pool, plane) of whatever a plane is to run."""
    for answer in told:
        for assignment in answer.state.assignments if answer.state else ():
            for envelope in assignment.envelopes:
                if envelope.ceiling and not assignment.tombstone:
                    yield envelope.deployment, envelope.pool, answer.plane
