"""Whom a deployment keeps apart from: of those it names, the ones of its own project. Pure.

Else a tenant could keep another's replicas off its planes, by guessing a name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from control_plane.reconcile.snapshot import Demand
from skerry.fleet.deployment import Deployment


def owners_of(demands: Iterable[Demand]) -> Mapping[str, str]:
    """Return whose each deployment is."""
    return {demand.deployment.name: demand.deployment.project for demand in demands}


def apart(deployment: Deployment, owners: Mapping[str, str]) -> Deployment:
    """Return the deployment with those alone to keep apart from that are of its project."""
    policy = deployment.policy
    own = tuple(one for one in policy.anti_affinity if owners.get(one) == deployment.project)
    if own == policy.anti_affinity:
        return deployment
    return replace(deployment, policy=replace(policy, anti_affinity=own))
