"""What is registered while the fleet runs is counted with, and told to planes, once."""

from pathlib import Path

from control_plane.store import catalogue, deployments
from control_plane.store.catalogue import PROFILES, REGISTERED_MODELS
from skerry.fleet.catalogue import RegisteredModel
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.generation import Version
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
    versions = pushed(fleet)
    await fleet.database.run(catalogue.create_entry, fleet.write(), PROFILES, MEASURED, "")
    await fleet.turns(1)
    assert before is not None
    assert fleet.loop.decided is not None
    assert fleet.loop.decided.fingerprint != before.fingerprint
    (deployment,) = fleet.loop.decided.fingerprint.deployments
    assert [s.throughput_tokens_per_second for s in deployment.revision.shapes] == [300.0]
    await fleet.turns(3)
    assert await fleet.counts() == counts, "one kind of accelerator alone is as fast as itself"
    told = {plane for plane, version in pushed(fleet).items() if version != versions[plane]}
    assert told == set(counts), "those that have envelopes of it"
    decided, versions = fleet.loop.decided, pushed(fleet)
    await fleet.turns(2)
    assert pushed(fleet) == versions
    assert fleet.loop.decided is decided, "what did not move is not decided again"
    name = MEASURED.name
    await fleet.database.run(catalogue.delete_entry, fleet.write(), PROFILES, name, "", "")
    await fleet.turns(1)
    assert fleet.loop.decided.fingerprint == before.fingerprint


async def test_what_a_base_model_must_contain_is_told_to_every_plane(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(5)
    uri, digest = FREE.revision.base_model.uri, "ab" * 32
    model = RegisteredModel(name="tiny", uri=uri, sha256=digest)
    await fleet.database.run(catalogue.create_entry, fleet.write(), REGISTERED_MODELS, model, "")
    await fleet.turns(2)
    for _, state in fleet.pushed.values():
        (assignment,) = state.assignments
        assert assignment.deployment.revision.base_model.uri == f"{uri}#sha256={digest}"


def pushed(fleet: Fleet) -> dict[str, Version]:
    return {plane: version for plane, (version, _) in fleet.pushed.items()}
