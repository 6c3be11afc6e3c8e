"""A region's latencies, registered while the fleet runs, decide where deployments may be."""

from pathlib import Path

from control_plane.reconcile.policy import ReconcilePolicy, with_regions
from control_plane.store import catalogue, deployments
from control_plane.store.catalogue import REGIONS, OnlyIf
from control_plane.store.fencing import WriteContext
from scheduler.problem import RegionLatency
from skerry.fleet.catalogue import Region
from skerry.fleet.deployment import LatencyLimit, PlacementPolicy
from tests.builders import a_deployment
from tests.integration.loop_world import Fleet

NEAR_EU = PlacementPolicy(latency=(LatencyLimit(client_region="eu", seconds_max=0.05),))
FRA, AWS = "fra/fra", "aws/aws"  # CLOUD/REGION of the fleet's planes


def told(client: str, region: str, seconds: float) -> RegionLatency:
    return RegionLatency(client_region=client, plane_region=region, seconds=seconds)


async def set_latency(fleet: Fleet, name: str, seconds: float) -> None:
    region = Region(name=name, client_latency_seconds=(("eu", seconds),))
    only = OnlyIf(allow_missing=True)
    await fleet.database.run(catalogue.update_entry, writing(fleet), REGIONS, region, only, "")


def writing(fleet: Fleet) -> WriteContext:
    return WriteContext(epoch=fleet.epoch, actor="user:test", now=fleet.clock.now())


async def test_a_limit_lets_a_pool_in_as_soon_as_its_regions_latency_is_told(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    near = a_deployment("near", replicas=1, policy=NEAR_EU)
    await fleet.database.run(deployments.apply_deployment, writing(fleet), near, "", "")
    await fleet.turns(3)
    assert await planes_of(fleet, "near") == set(), "a latency nobody told is not met"
    await set_latency(fleet, AWS, 0.02)
    await fleet.turns(1)
    assert await planes_of(fleet, "near") == {"aws"}
    await set_latency(fleet, FRA, 0.04)
    await set_latency(fleet, AWS, 0.09)
    await fleet.turns(1)
    assert await planes_of(fleet, "near") == {"fra"}, "a latency that grew rules its pool out"
    decided = fleet.loop.decided
    await fleet.turns(1)
    assert fleet.loop.decided is decided, "what did not move is not decided again"
    await fleet.database.run(catalogue.delete_entry, writing(fleet), REGIONS, FRA, "", "")
    await fleet.turns(1)
    assert await planes_of(fleet, "near") == set()


async def test_what_a_region_tells_comes_before_what_the_settings_tell(tmp_path: Path) -> None:
    settings = (told("eu", "fra", 0.3), told("eu", "aws", 0.01))
    fleet = Fleet(tmp_path, ReconcilePolicy(latencies=settings))
    await fleet.apply_demo()
    near = a_deployment("near", replicas=1, policy=NEAR_EU)
    await fleet.database.run(deployments.apply_deployment, writing(fleet), near, "", "")
    await fleet.turns(3)
    assert await planes_of(fleet, "near") == {"aws"}
    await set_latency(fleet, FRA, 0.04)
    await set_latency(fleet, AWS, 0.06)
    await fleet.turns(1)
    assert await planes_of(fleet, "near") == {"fra"}


def test_a_pair_that_both_tell_is_the_regions() -> None:
    policy = ReconcilePolicy(latencies=(told("eu", FRA, 0.3), told("us", FRA, 0.2)))
    region = Region(name=FRA, client_latency_seconds=(("eu", 0.01),))
    assert with_regions(policy, (region,)).latencies == (
        told("eu", FRA, 0.01),
        told("us", FRA, 0.2),
    )


async def planes_of(fleet: Fleet, deployment: str) -> set[str]:
    placed = (await fleet.sight.look()).placements
    return {p.pool.removesuffix("--cpu") for p in placed if p.deployment == deployment and p.count}
