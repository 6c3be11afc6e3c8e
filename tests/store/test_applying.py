"""Several deployments applied at once: all or none, whatever their order, on both databases."""

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import JSON, select, text, type_coerce

from control_plane.store import tables
from control_plane.store.deployments import (
    apply_deployment,
    apply_deployments,
    get_deployment,
    list_deployments,
    mark_deleting,
    preview_deployments,
)
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.values import ApplyOutcome
from skerry.fleet.deployment import Deployment, Scaling
from skerry.plumbing.errors import AlreadyExists, Conflict, Infeasible, InvalidInput, SkerryError
from tests.builders import T0, a_deployment


def serving(name: str, served: str) -> Deployment:
    held = a_deployment(name)
    model = replace(held.revision.base_model, served_name=served)
    return replace(held, revision=replace(held.revision, base_model=model))


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table))]
            for table in tables.metadata.sorted_tables
        }


@pytest.fixture
def stored(database: Database, write: WriteContext) -> Database:
    """A store with `demo`, `other`, and `ending`, which is being deleted."""
    with database.write() as session:
        apply_deployments(
            session, write, [a_deployment(name) for name in ("other", "demo", "ending")], ""
        )
        mark_deleting(session, write, "ending", "", "")
    return database


def test_each_is_created_updated_or_left_alone_and_told_with_what_was_there(
    stored: Database, write: WriteContext
) -> None:
    scaled = a_deployment("demo", scaling=Scaling(min_replicas=0, max_replicas=9))
    with stored.write() as session:
        done = apply_deployments(
            session, write, [a_deployment("new"), scaled, a_deployment("other")], ""
        )
        held = get_deployment(session, "demo")
    outcomes = [one.applied.outcome for one in done]
    assert outcomes == [ApplyOutcome.CREATED, ApplyOutcome.UPDATED, ApplyOutcome.UNCHANGED]
    assert [one.before for one in done] == [None, a_deployment("demo"), a_deployment("other")]
    assert done[1].applied.stored == held


BAD_LAST: list[tuple[Deployment, dict[str, str], type[SkerryError], str]] = [
    (serving("late", "other"), {}, AlreadyExists, "specs[2].spec.baseModel.servedName"),
    (a_deployment("other", replicas=1), {"other": "stale"}, Conflict, "specs[2].etag"),
    (a_deployment("nowhere"), {"nowhere": "stale"}, Conflict, "specs[2].etag"),
    (a_deployment("ending"), {}, Infeasible, "specs[2]"),
    (a_deployment("first"), {}, InvalidInput, "specs[2].metadata.name"),
    (serving("late", "first"), {}, InvalidInput, "specs[2].spec.baseModel.servedName"),
]


@pytest.mark.parametrize(("last", "etags", "kind", "path"), BAD_LAST)
def test_a_bad_last_one_keeps_every_other_from_being_applied(
    last: Deployment,
    etags: dict[str, str],
    kind: type[SkerryError],
    path: str,
    stored: Database,
    write: WriteContext,
) -> None:
    asked = [a_deployment("first"), a_deployment("demo", replicas=7), last]
    before = everything(stored)
    with pytest.raises(kind) as refused, stored.write() as session:
        apply_deployments(session, write, asked, "request-1", etags)
    assert refused.value.field == path
    with pytest.raises(kind) as foretold, stored.read() as session:
        preview_deployments(session, asked, T0, etags)
    assert foretold.value.message == refused.value.message
    assert everything(stored) == before


def test_a_repeated_request_is_one_effect_and_one_answer(
    stored: Database, write: WriteContext
) -> None:
    asked = [a_deployment("new"), a_deployment("demo", replicas=5)]
    with stored.write() as session:
        first = apply_deployments(session, write, asked, "request-1")
    with stored.write() as session:
        apply_deployment(session, write, a_deployment("demo", replicas=6), "", "")
    before = everything(stored)
    with stored.write() as session:
        assert apply_deployments(session, write, asked, "request-1") == first
    with pytest.raises(InvalidInput, match="different call"), stored.write() as session:
        apply_deployments(session, write, asked[::-1], "request-1")
    assert everything(stored) == before


def test_an_answer_that_the_release_before_kept_is_found(
    stored: Database, write: WriteContext
) -> None:
    asked = [a_deployment("new"), a_deployment("demo", replicas=5)]
    with stored.write() as session:
        first = apply_deployments(session, write, asked, "request-1")
        kept = session.execute(text("select answer from requests")).scalar_one()
        told = json.loads(kept) if isinstance(kept, str) else kept
        # It kept the answer where those of the catalogue are, and knew no other place.
        value = told.pop("applied_all")
        times = {"created_at": T0.isoformat(), "updated_at": T0.isoformat()}
        told["entry"] = {"value": value, "etag": "", **times}
        answer = {"answer": json.dumps({k: v for k, v in told.items() if v is not None})}
        session.execute(text("update requests set answer = :answer"), answer)
    with stored.write() as session:
        assert apply_deployments(session, write, asked, "request-1") == first


def test_served_names_go_round_in_one_request(stored: Database, write: WriteContext) -> None:
    asked = [serving("demo", "other"), serving("other", "demo"), a_deployment("third")]
    with stored.write() as session:
        apply_deployments(session, write, asked, "")
    with stored.read() as session:
        served = {
            row.name: row.served_name
            for row in session.execute(
                select(tables.deployments.c.name, tables.deployments.c.served_name)
            )
        }
        held = {one.deployment.name: one.deployment for one in list_deployments(session)}
    assert served == {"demo": "other", "other": "demo", "third": "third", "ending": "ending"}
    assert held["demo"].revision.base_model.served_name == "other"
    assert held["demo"].revision.number == 2


def test_a_preview_tells_what_applying_does_and_changes_nothing(
    stored: Database, write: WriteContext
) -> None:
    asked = [a_deployment("new"), a_deployment("demo", replicas=5), serving("other", "o-2")]
    before = everything(stored)
    with stored.read() as session:
        foretold = preview_deployments(session, asked, T0)
    assert everything(stored) == before
    with stored.write() as session:
        done = apply_deployments(session, write, asked, "")
    for told, one in zip(foretold, done, strict=True):
        assert told.before == one.before
        assert told.applied.outcome is one.applied.outcome
        assert told.applied.stored.deployment == one.applied.stored.deployment


def test_a_delay_that_nobody_set_is_no_null_to_releases_that_know_none(
    stored: Database, write: WriteContext
) -> None:
    with stored.write() as session:
        apply_deployments(session, write, [a_deployment("new", scaling=Scaling())], "")
        (raw,) = session.execute(
            select(type_coerce(tables.deployments.c.deployment, JSON)).where(
                tables.deployments.c.name == "new"
            )
        ).scalars()
        held = get_deployment(session, "new")
    assert "scale_down_delay_seconds" not in raw["scaling"]
    assert held is not None
    assert held.deployment.scaling == Scaling()
