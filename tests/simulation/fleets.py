"""The fleets that worlds begin with: planes, prices, and what is to be served under which promises.

Few and fixed, so that the same placement problem comes up in many seeds and is solved once.
"""

from dataclasses import dataclass, replace

from control_plane.store.values import StoredEntry
from skerry.fleet.autoscaling.work import OUTPUT_TOKENS_PRIOR
from skerry.fleet.deployment import (
    Deployment,
    FailureDomain,
    PlacementPolicy,
    Scaling,
    Spread,
)
from skerry.fleet.engine import EngineSpec
from skerry.fleet.pool import PlaneIdentity
from skerry.fleet.profile import Profile, ProfileStep, profile_key
from skerry.fleet.rollout import RolloutPolicy
from skerry.fleet.scaling import Strategy
from tests.builders import T0, a_deployment
from tests.simulation.users import PROMPT_TOKENS, REPLICA_SECONDS, SLOTS

# A minute's soaking and ten minutes' loading are for days; a world lasts a minute.
PACE = RolloutPolicy(soak_seconds=2.0, ready_seconds_max=12.0)
START_SECONDS_MAX = 5.0
DELAY_SECONDS = 15.0  # of scaling down: minutes are for days
POISON = "poison"  # an engine option: how the revision's replicas fail
START, HANG, SOAK = "start", "hang", "soak"  # at once, by never being READY, soon after they are
PRICES = (0.1, 0.3, 0.4, 0.5, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Planes with four accelerators each, and deployments that fit on all but one of them.

    Where some are `loaded` by users, both loops of autoscaling decide; elsewhere targets are the
    solver's.
    """

    planes: tuple[PlaneIdentity, ...]
    deployments: tuple[Deployment, ...]
    loaded: tuple[str, ...] = ()


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


def by_load(
    name: str, least: int, most: int, strategy: Strategy = Strategy.TOKEN_WORK
) -> Deployment:
    """Return a deployment that scales by load, on two planes at least where it has two replicas.

    With 0 at the least it goes to zero and comes back.
    """
    spread = Spread(domain=FailureDomain.PLANE, domains_min=2)
    policy = PlacementPolicy(spread=spread if least > 1 else None)
    scaling = Scaling(
        min_replicas=least,
        max_replicas=most,
        window_seconds=DELAY_SECONDS,
        scale_down_delay_seconds=DELAY_SECONDS,
        concurrency_target=float(SLOTS),
        strategy=strategy,
    )
    return a_deployment(name, policy=policy, scaling=scaling, rollout=PACE)


def _profile_of(deployment: Deployment) -> StoredEntry[Profile]:
    """Return what its replicas yield by a measurement: users' requests cost that here."""
    revision = deployment.revision
    key = profile_key(revision, revision.shapes[0])
    step = ProfileStep(
        concurrency=SLOTS,
        requests=100,
        ttft_p50_seconds=0.0,
        ttft_p99_seconds=0.0,
        itl_samples=100,
        itl_p50_seconds=0.0,
        itl_p99_seconds=0.0,
        tpot_p99_seconds=0.0,
        output_tokens_per_second=OUTPUT_TOKENS_PRIOR / REPLICA_SECONDS,
        prompt_tokens_per_second=PROMPT_TOKENS / REPLICA_SECONDS,
    )
    profile = Profile(
        name=key.name,
        base_model=key.base_model,
        engine=key.engine,
        engine_version=key.engine_version,
        configuration=key.configuration,
        accelerator=key.accelerator,
        accelerators=key.accelerators,
        steps=(step,),
        measured_at=T0,
        prompt_tokens=int(PROMPT_TOKENS),
        output_tokens=int(OUTPUT_TOKENS_PRIOR),
        load_seconds=START_SECONDS_MAX,
    )
    return StoredEntry(value=profile, etag="", created_at=T0, updated_at=T0)


# Of a good revision; what a poisoned one costs nobody knows, and requests in flight are counted.
PROFILES = (_profile_of(a_deployment()),)


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
# Of seeds whose deployments scale by load.
LOADED = {
    "three, loaded": Fleet(
        planes=(_AWS, _FRA, _GCP),
        deployments=(by_load("demo", 2, 8), residing("home", 2, "eu")),
        loaded=("demo",),
    ),
    "four, loaded": Fleet(
        planes=(_AWS, _FRA, _GCP, _OCI),
        deployments=(by_load("demo", 3, 9), by_load("side", 1, 5)),
        loaded=("demo", "side"),
    ),
    "four, by concurrency": Fleet(
        planes=(_AWS, _FRA, _GCP, _OCI),
        deployments=(by_load("demo", 2, 8), by_load("side", 1, 4, Strategy.CONCURRENCY)),
        loaded=("demo", "side"),
    ),
    "three, to zero": Fleet(
        planes=(_AWS, _FRA, _GCP),
        deployments=(by_load("demo", 2, 6), by_load("side", 0, 3)),
        loaded=("demo", "side"),
    ),
    "three, to zero by concurrency": Fleet(
        planes=(_AWS, _FRA, _GCP),
        deployments=(by_load("demo", 2, 6), by_load("side", 0, 3, Strategy.CONCURRENCY)),
        loaded=("demo", "side"),
    ),
}
# Made by an operator in the middle of a run, and deleted again.
GUEST = anywhere("guest", 1)
