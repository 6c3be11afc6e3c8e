"""Whether any pool of the fleet could ever host a deployment: pure; `skerry apply` asks first.

What passes (a cordon, a missing price, a lost plane, a full pool) is a reason to wait; what does
not (the kind, the size, the policy) is most often a typing error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from scheduler.feasibility import rejection
from scheduler.problem import DemandedDeployment
from skerry.client.rows import PlaneRow, PlanPreview, PoolRow
from skerry.fleet.catalogue import Reservation
from skerry.fleet.deployment import Deployment
from skerry.fleet.intent import Intent, PoolIntent
from skerry.fleet.pool import CapacityClass, Pool

POOLS_SHOWN_MAX = 8  # of a thousand pools, the first few reasons tell what is wrong


def is_placed(preview: PlanPreview, deployment: str) -> bool:
    """Say whether the plan has at least one replica of the deployment."""
    return any(row.deployment == deployment and row.replicas_after for row in preview.placements)


def describe_pending(preview: PlanPreview, deployment: str) -> tuple[str, ...]:
    """Return what of the deployment the plan finds no place for, and why."""
    return tuple(
        f"{row.replicas} {'replica' if row.replicas == 1 else 'replicas'}: {row.reason}"
        for row in preview.unplaced
        if row.deployment == deployment
    )


def lasting_rejections(
    deployment: Deployment, planes: Iterable[PlaneRow], pools: Iterable[PoolRow]
) -> Mapping[str, str]:
    """Return why each pool can never host the deployment; empty when one can or none is known."""
    identities = {plane.name: plane.identity for plane in planes}
    # Latencies between regions are the control plane's to know: they reject nothing for ever here.
    policy = replace(deployment.policy, latency=())
    wanted = DemandedDeployment(
        deployment=replace(deployment, policy=policy), replicas=deployment.scaling.min_replicas
    )
    reasons: dict[str, str] = {}
    for row in pools:
        identity = identities.get(row.plane)
        if identity is None or row.shape is None:
            return {}
        # As it will be once its nodes are fit again, it is open, and somebody gave it a price.
        shape = replace(row.shape, nodes=max(1, row.shape.nodes))
        terms = replace(row.terms, price_per_accelerator_hour=0.0, cordoned=False)
        pool = Pool(plane=identity, shape=shape, terms=terms)
        reason = rejection(wanted, pool, bar=None, runs=0, latencies={})
        if reason is None:
            return {}
        reasons[row.name] = reason
    return reasons


def as_said(pools: Iterable[PoolRow], intents: Sequence[Intent]) -> tuple[PoolRow, ...]:
    """Return pools as they may be once the intents are in force; of a reserved one both ways."""
    told = {one.pool: one.terms for one in intents if isinstance(one, PoolIntent)}
    reserved = {one.pool for one in intents if isinstance(one, Reservation)}
    found = []
    for row in pools:
        row = replace(row, terms=told.get(row.name, row.terms))
        found.append(row)
        if row.name in reserved:
            terms = replace(row.terms, capacity_class=CapacityClass.RESERVED)
            found.append(replace(row, terms=terms))
    return tuple(found)


def describe_misfit(name: str, reasons: Mapping[str, str]) -> str:
    """Return the refusal of a deployment that no pool can host."""
    lines = [f"no pool of this fleet can host deployment {name}:"]
    lines += [f"  {pool}: {reason}" for pool, reason in sorted(reasons.items())[:POOLS_SHOWN_MAX]]
    if (more := len(reasons) - POOLS_SHOWN_MAX) > 0:
        lines.append(f"  and {more} more pools")
    lines.append("change it, or give --force to have it wait for other pools")
    return "\n".join(lines)
