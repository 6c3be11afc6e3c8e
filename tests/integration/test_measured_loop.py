"""A profile that is kept while the fleet runs is counted with, and planes are told nothing anew."""

from pathlib import Path

from control_plane.store import catalogue, deployments
from control_plane.store.catalogue import PROFILES
from skerry.fleet.deployment import PlacementPolicy
from tests.builders import a_deployment, a_profile
from tests.integration.loop_world import Fleet

FREE = a_deployment(replicas=2, policy=PlacementPolicy())
MEASURED = a_profile({1: 100.0, 4: 300.0}, FREE)


async def test_a_profile_is_counted_with_as_soon_as_it_is_kept(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.database.run(deployments.apply_deployment, fleet.write(), FREE, "", "")
    await fleet.turns(5)
    counts, before = await fleet.counts(), fleet.loop.decided
    versions = {plane: version for plane, (version, _) in fleet.pushed.items()}
    await fleet.database.run(catalogue.create_entry, fleet.write(), PROFILES, MEASURED, "")
    await fleet.turns(1)
    assert before is not None
    assert fleet.loop.decided is not None
    assert fleet.loop.decided.fingerprint != before.fingerprint
    (deployment,) = fleet.loop.decided.fingerprint.deployments
    assert [s.throughput_tokens_per_second for s in deployment.revision.shapes] == [300.0]
    await fleet.turns(3)
    assert await fleet.counts() == counts, "one kind of accelerator alone is as fast as itself"
    assert {plane: version for plane, (version, _) in fleet.pushed.items()} == versions
    decided = fleet.loop.decided
    await fleet.turns(2)
    assert fleet.loop.decided is decided, "what did not move is not decided again"
    name = MEASURED.name
    await fleet.database.run(catalogue.delete_entry, fleet.write(), PROFILES, name, "", "")
    await fleet.turns(1)
    assert fleet.loop.decided.fingerprint == before.fingerprint
