"""The fleets that worlds begin with: planes, prices, and what is to be served under which promises.

Few and fixed, so that the same placement problem comes up in many seeds and is solved once.
"""

from dataclasses import dataclass, replace

from skerry.fleet.deployment import (
    Deployment,
    FailureDomain,
    PlacementPolicy,
    Scaling,
    Spread,
)
from skerry.fleet.engine import EngineSpec
from skerry.fleet.pool import PlaneIdentity
from skerry.fleet.rollout import RolloutPolicy
from tests.builders import a_deployment

# A minute's soaking and ten minutes' loading are for days; a world lasts a minute.
PACE = RolloutPolicy(soak_seconds=2.0, ready_seconds_max=12.0)
POISON = "poison"  # an engine option: how the revision's replicas fail
START, HANG, SOAK = "start", "hang", "soak"  # at once, by never being READY, soon after they are
PRICES = (0.1, 0.3, 0.4, 0.5, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Planes with four accelerators each, and deployments that fit on all but one of them."""

    planes: tuple[PlaneIdentity, ...]
    deployments: tuple[Deployment, ...]


def _plane(name: str, cloud: str, region: str, *zones: str) -> PlaneIdentity:
    return PlaneIdentity(name=name, cloud=cloud, region=region, residency_zones=zones)


_AWS = _plane("aws", "aws", "us-east", "us")
_FRA = _plane("fra", "onprem", "fra", "eu")
_GCP = _plane("gcp", "gcp", "eu-west", "eu")
_OCI = _plane("oci", "gcp", "eu-mid", "eu")  # of one cloud with gcp
_AZR = _plane("azr", "azr", "us-east", "us")  # in one region with aws


def scaled(deployment: Deployment, least: int, most: int) -> Deployment:
    """Return the deployment with other bounds."""
    scaling = replace(deployment.scaling, min_replicas=least, max_replicas=most)
    return replace(deployment, scaling=scaling)


def revised(deployment: Deployment, number: int, poison: str = "") -> Deployment:
    """Return the deployment with a revision of that number, good or one that fails so."""
    revision = deployment.revision
    options = ((POISON, poison),) if poison else ()
    engine = replace(revision.engine, options=options)
    return replace(deployment, revision=replace(revision, number=number, engine=engine))


def poison_of(engine: EngineSpec) -> str:
    """Return how replicas of that engine fail, empty where they do not."""
    return dict(engine.options).get(POISON, "")


def spread_over(name: str, least: int, most: int, planes: int, priority: int = 1) -> Deployment:
    """Return a deployment on at least so many planes."""
    spread = Spread(domain=FailureDomain.PLANE, domains_min=planes)
    policy = PlacementPolicy(spread=spread, priority=priority)
    scaling = Scaling(min_replicas=least, max_replicas=most)
    return a_deployment(name, policy=policy, scaling=scaling, rollout=PACE)


def anywhere(name: str, replicas: int) -> Deployment:
    """Return a deployment that goes where it is cheapest."""
    return a_deployment(name, replicas=replicas, rollout=PACE)


def apart_from(name: str, replicas: int, other: str) -> Deployment:
    """Return a deployment that shares no plane with another."""
    policy = PlacementPolicy(anti_affinity=(other,))
    return a_deployment(name, replicas=replicas, policy=policy, rollout=PACE)


def residing(name: str, replicas: int, zone: str) -> Deployment:
    """Return a deployment that may not leave a zone."""
    policy = PlacementPolicy(residency_zones=(zone,))
    return a_deployment(name, replicas=replicas, policy=policy, rollout=PACE)


# By name, for kept schedules name theirs: one that is changed gets another name.
FLEETS = {
    "four, crowded": Fleet(
        planes=(_AWS, _FRA, _GCP, _OCI),
        deployments=(spread_over("demo", 5, 8, 3), anywhere("side", 2)),
    ),
    "four, residing": Fleet(
        planes=(_AWS, _FRA, _GCP, _OCI),
        deployments=(spread_over("demo", 4, 6, 2), residing("home", 3, "eu")),
    ),
    "three": Fleet(
        planes=(_AWS, _FRA, _GCP),
        deployments=(spread_over("demo", 3, 5, 2), residing("home", 2, "eu")),
    ),
    "five, apart": Fleet(
        planes=(_AWS, _AZR, _FRA, _GCP, _OCI),
        deployments=(
            spread_over("demo", 4, 6, 3, priority=0),
            anywhere("side", 3),
            apart_from("solo", 2, "side"),
        ),
    ),
    "two": Fleet(
        planes=(_FRA, _GCP),
        deployments=(spread_over("demo", 3, 4, 2),),
    ),
}
# Made by an operator in the middle of a run, and deleted again.
GUEST = anywhere("guest", 1)
