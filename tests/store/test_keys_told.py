"""What a look at the store tells planes of API keys, as projects come and go."""

from dataclasses import replace

from control_plane.link.convert import decode_desired
from control_plane.link.registry import Registry
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.sight import Sight
from control_plane.store.api_keys import KeyRecord, create_api_key
from control_plane.store.deployments import apply_deployment, mark_deleting, remove_deployment
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.projects import create_project, delete_project
from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.project import Project
from tests.builders import a_deployment
from tests.fakes.clock import START, FakeClock

EVERY = KeyRecord(
    name="every", terms=KeyTerms(deployments=("*",)), creator="user:root", created_at=START
)
RED = Project(name="red", creator="user:root", created_at=START)


class Looks:
    """The product's own looks at a store, with no plane connected."""

    def __init__(self, database: Database) -> None:
        clock = FakeClock()
        registry = Registry(clock, lambda: None)
        self._sight = Sight(database, registry, clock, ReconcilePolicy(), decode_desired)

    async def keys(self) -> tuple[ApiKey, ...]:
        """What planes are told now."""
        return (await self._sight.look()).api_keys or ()


async def test_keys_are_told_as_they_were_made_until_another_project_is_there(
    database: Database, write: WriteContext
) -> None:
    looks = Looks(database)
    await database.run(apply_deployment, write, a_deployment("ours"), "", "")
    await database.run(create_api_key, write, EVERY, bytes(32), "")
    alone = await looks.keys()
    assert [(key.terms.deployments, key.every_of_project) for key in alone] == [(("*",), False)]
    await database.run(create_project, write, RED, "")
    red = replace(write, project="red")
    await database.run(apply_deployment, red, a_deployment("theirs", project="red"), "", "")
    theirs = replace(EVERY, name="theirs")
    await database.run(create_api_key, red, theirs, bytes([1]) * 32, "")
    told = await looks.keys()
    assert [(key.name, key.project, key.terms.deployments) for key in told] == [
        ("every", "default", ("ours",)),
        ("theirs", "red", ("theirs",)),
    ]
    assert all(key.every_of_project for key in told)
    # What does not move the keys leaves them the same value: planes are told nothing anew.
    larger = a_deployment("ours", replicas=5)
    await database.run(apply_deployment, write, larger, "", "")
    assert await looks.keys() is told


async def test_what_planes_may_still_end_stays_shut_once_its_project_is_gone(
    database: Database, write: WriteContext
) -> None:
    looks = Looks(database)
    await database.run(create_api_key, write, EVERY, bytes(32), "")
    await database.run(create_project, write, RED, "")
    red = replace(write, project="red")
    await database.run(apply_deployment, red, a_deployment("theirs", project="red"), "", "")
    await database.run(mark_deleting, red, "theirs", "", "")
    await database.run(remove_deployment, write, "theirs")
    await database.run(delete_project, write, "red", "")
    (told,) = await looks.keys()
    assert told.every_of_project
    assert "theirs" not in told.terms.deployments
