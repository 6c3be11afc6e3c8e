"""Projects as they are stored: what one owns is not there for another, and keeps it from going."""

from dataclasses import replace
from typing import Any

import pytest

from control_plane.store import api_keys, projects
from control_plane.store.api_keys import (
    KeyRecord,
    adopt_api_keys,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from control_plane.store.changes import get_change, last_sequence, list_changes
from control_plane.store.deployments import (
    AskedUpdate,
    Creation,
    apply_deployment,
    apply_deployments,
    list_revisions,
    mark_deleting,
    remove_deployment,
    rollback_deployment,
    update_deployment,
)
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.projects import (
    adopt_projects,
    create_project,
    delete_project,
    list_projects,
    projects_of,
)
from control_plane.store.rollouts import Steer, put_rollouts, steer_rollout
from control_plane.store.service_tokens import (
    create_service_token,
    list_service_tokens,
    revoke_service_token,
)
from skerry.fleet.access import Grant, Role, ServiceToken
from skerry.fleet.api_key import EVERY_DEPLOYMENT, ApiKey, KeyTerms
from skerry.fleet.project import Project
from skerry.fleet.rollout import Rollout, Stage
from skerry.plumbing.errors import AlreadyExists, Exhausted, Infeasible, NotFound
from tests.builders import a_deployment
from tests.fakes.clock import START

Calls = tuple[tuple[Any, ...], ...]  # a write function with what it is told
RED = Project(name="red", creator="user:root", created_at=START)
BLUE = replace(RED, name="blue")
KEY = KeyRecord(name="k", terms=KeyTerms(deployments=("*",)), creator="user:root", created_at=START)
TOKEN = ServiceToken(
    name="t",
    grant=Grant(role=Role.ADMIN, projects=("red",)),
    creator="user:root",
    created_at=START,
)


@pytest.fixture
async def red(database: Database, write: WriteContext) -> WriteContext:
    """The right to write what is of project red; there is a project blue, too."""
    for project in (RED, BLUE):
        await database.run(create_project, write, project, "")
    return replace(write, project="red")


def owned(name: str = "demo", **fields: Any) -> Any:
    return a_deployment(name, project="red", **fields)


async def test_a_project_is_made_once_for_each_request_and_its_name_is_its_own(
    database: Database, write: WriteContext
) -> None:
    made = await database.run(create_project, write, RED, "r-1")
    again = await database.run(create_project, write, replace(RED, creator="user:other"), "r-1")
    assert made == again == RED
    for name in ("red", "default"):
        with pytest.raises(AlreadyExists, match=name):
            await database.run(create_project, write, replace(RED, name=name), "")
    assert await database.run_read(list_projects) == (RED,)
    change = await database.run_read(lambda s: get_change(s, last_sequence(s)))
    assert (change.kind, change.subject, change.project) == (
        *("project.created", "projects/red"),
        "default",
    )


async def test_there_are_no_more_than_so_many(
    database: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "PROJECTS_MAX", 1)
    await database.run(create_project, write, RED, "")
    with pytest.raises(Exhausted, match="delete"):
        await database.run(create_project, write, BLUE, "")


async def test_what_owns_something_is_not_deleted_and_what_owns_nothing_is(
    database: Database, write: WriteContext, red: WriteContext
) -> None:
    await database.run(apply_deployment, red, owned(), "", "")
    await database.run(create_api_key, red, KEY, bytes(32), "")
    await database.run(create_service_token, write, TOKEN, bytes(32), "")  # default's, for red
    with pytest.raises(Infeasible, match="deployments demo; API keys k; service tokens t"):
        await database.run(delete_project, write, "red", "")
    await database.run(mark_deleting, red, "demo", "", "")
    await database.run(remove_deployment, write, "demo")
    await database.run(revoke_api_key, red, "k", "")
    await database.run(revoke_service_token, write, TOKEN, "")
    await database.run(delete_project, write, "red", "r-9")
    await database.run(delete_project, write, "red", "r-9")
    assert await database.run_read(list_projects) == (BLUE,)
    with pytest.raises(NotFound):
        await database.run(delete_project, write, "red", "")
    with pytest.raises(Infeasible):
        await database.run(delete_project, write, "default", "")


async def test_nothing_is_made_in_a_project_that_is_not_there(
    database: Database, write: WriteContext
) -> None:
    nowhere = replace(write, project="red")
    for call, *told in (
        (apply_deployment, owned(), "", ""),
        (apply_deployments, (owned(),), ""),
        (create_api_key, KEY, bytes(32), ""),
        (create_service_token, TOKEN, bytes(32), ""),
    ):
        with pytest.raises(NotFound, match="no project 'red'"):
            await database.run(call, nowhere, *told)


async def test_anothers_deployment_is_not_there_for_any_write(
    database: Database, write: WriteContext, red: WriteContext
) -> None:
    await database.run(apply_deployment, red, owned(), "", "")
    canary = Rollout(deployment="demo", revision=1, stable=1, stage=Stage.CANARY, since=START)
    await database.run(put_rollouts, write, [(canary, None)])
    blue = replace(write, project="blue")
    only = AskedUpdate(name="demo", text="x", creation=Creation.NEVER)
    found: Calls = (
        (mark_deleting, "demo", "", ""),
        (rollback_deployment, "demo", 1, "", ""),
        (steer_rollout, "demo", Steer.PAUSE, ""),
        (update_deployment, only, lambda held: held, ""),
    )
    for call, *told in found:
        for other in (blue, write):
            with pytest.raises(NotFound):
                await database.run(call, other, *told)
    mine = a_deployment("demo", project="blue")
    made = AskedUpdate(name="demo", text="y", creation=Creation.ALLOWED)
    taken: Calls = (
        (apply_deployment, mine, "", ""),
        (apply_deployments, (mine,), ""),
        (update_deployment, made, lambda held: mine, ""),
    )
    for call, *told in taken:
        with pytest.raises(AlreadyExists, match="taken") as refused:
            await database.run(call, blue, *told)
        assert "red" not in str(refused.value)
    serving = owned().revision.base_model.served_name
    model = replace(mine.revision.base_model, served_name=serving)
    revision = replace(mine.revision, base_model=model)
    second = a_deployment("other", project="blue", revision=revision)
    with pytest.raises(AlreadyExists, match=f"'{serving}' is taken"):
        await database.run(apply_deployment, blue, second, "", "")


async def test_a_request_id_of_one_project_answers_nothing_in_another(
    database: Database, write: WriteContext, red: WriteContext
) -> None:
    await database.run(apply_deployment, red, owned(), "", "")
    await database.run(mark_deleting, red, "demo", "", "once")
    with pytest.raises(Exception, match="request_id"):
        await database.run(mark_deleting, replace(write, project="blue"), "demo", "", "once")


async def test_anothers_credentials_are_not_there(
    database: Database, write: WriteContext, red: WriteContext
) -> None:
    await database.run(create_api_key, red, KEY, bytes(32), "")
    await database.run(create_service_token, red, TOKEN, bytes(32), "")
    for other in (write, replace(write, project="blue")):
        with pytest.raises(NotFound):
            await database.run(revoke_api_key, other, "k", "")
        with pytest.raises(NotFound):
            await database.run(revoke_service_token, other, TOKEN, "")
    (key,), (token,) = (
        await database.run_read(list_api_keys),
        await database.run_read(list_service_tokens),
    )
    assert (key.project, key.key.project, token.project) == ("red", "red", "red")


async def test_changes_are_those_of_the_project_they_were_made_in(
    database: Database, write: WriteContext, red: WriteContext
) -> None:
    await database.run(apply_deployment, red, owned(), "", "")
    await database.run(apply_deployment, write, a_deployment("ours"), "", "")
    newest = await database.run_read(last_sequence)

    def kinds(project: str) -> Any:
        return lambda session: [
            change.subject for change in list_changes(session, 0, 99, project=project)
        ]

    assert await database.run_read(kinds("red")) == ["projects/red/deployments/demo"]
    assert "projects/default/deployments/ours" in await database.run_read(kinds("default"))
    assert len(await database.run_read(kinds("-"))) == newest
    with pytest.raises(NotFound):
        await database.run_read(lambda session: get_change(session, newest, "red"))


async def test_revisions_of_a_removed_one_of_the_name_are_not_the_next_owners(
    database: Database, write: WriteContext, red: WriteContext
) -> None:
    await database.run(apply_deployment, red, owned(), "", "")
    await database.run(mark_deleting, red, "demo", "", "")
    await database.run(remove_deployment, write, "demo")
    blue = replace(write, project="blue", now=write.now.replace(year=write.now.year + 1))
    await database.run(apply_deployment, blue, a_deployment("demo", project="blue"), "", "")
    (only,) = await database.run_read(list_revisions, "demo")
    assert only.created_at == blue.now
    assert await database.run_read(projects_of, ("demo", "other")) == {"demo": "blue"}


async def test_what_planes_hold_brings_its_projects_back(
    database: Database, write: WriteContext
) -> None:
    await database.run(adopt_projects, write, ("red", "default", "red"))
    assert [one.name for one in await database.run_read(list_projects)] == ["red"]
    every = ApiKey(
        name="every",
        digest=bytes(32),
        terms=KeyTerms(deployments=("a", "b"), requests_per_minute=9),
        project="red",
        every_of_project=True,
    )
    await database.run(adopt_api_keys, write, [every])
    (stored,) = await database.run_read(list_api_keys)
    assert stored.project == "red"
    assert stored.record.terms == KeyTerms(deployments=("*",), requests_per_minute=9)


async def test_a_projects_keys_and_what_they_list_are_bounded_and_the_fleets_are_not_by_it(
    database: Database, write: WriteContext, red: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "KEYS_OF_PROJECT_MAX", 2)
    monkeypatch.setattr(api_keys, "NAMES_OF_PROJECT_MAX", 3)

    async def make(by: WriteContext, name: str, *deployments: str) -> None:
        terms = KeyTerms(deployments=deployments)
        key = KeyRecord(name=name, terms=terms, creator="user:root", created_at=START)
        await database.run(create_api_key, by, key, name.encode().ljust(32), "")

    await make(red, "one", "a", "b")
    with pytest.raises(Exhausted, match="project 'red' list 4 deployments"):
        await make(red, "two", "c", "d")
    await make(red, "two", EVERY_DEPLOYMENT)
    with pytest.raises(Exhausted, match=r"2 API keys of project 'red' .* as many as may be"):
        await make(red, "three", EVERY_DEPLOYMENT)
    for name in ("four", "five", "six"):
        await make(write, name, "a", "b", "c", "d")
