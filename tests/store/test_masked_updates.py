"""Updates of some fields: nothing that others say meanwhile is lost, on both databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from control_plane.store.catalogue import (
    ACCELERATOR_KINDS,
    Merge,
    OnlyIf,
    create_entry,
    get_entry,
    merge_entry,
)
from control_plane.store.deployments import (
    AskedUpdate,
    Creation,
    apply_deployment,
    get_deployment,
    mark_deleting,
    update_deployment,
)
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext
from control_plane.store.pools import AskedTerms, get_terms, set_terms, update_terms
from control_plane.store.values import ApplyOutcome
from skerry.fleet.catalogue import AcceleratorKind
from skerry.fleet.deployment import Deployment, Scaling
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import AlreadyExists, Conflict, Infeasible, InvalidInput, NotFound
from tests.builders import a_deployment

Merging = Callable[[Deployment | None], Deployment]
ROUNDS = 10


def scaled(most: int) -> Merging:
    def merge(held: Deployment | None) -> Deployment:
        return replace(held or a_deployment(), scaling=Scaling(min_replicas=1, max_replicas=most))

    return merge


def labelled(text: str) -> Merging:
    def merge(held: Deployment | None) -> Deployment:
        return replace(held or a_deployment(), labels=(("team", text),))

    return merge


def asked(text: str, etag: str = "", creation: Creation = Creation.NEVER) -> AskedUpdate:
    return AskedUpdate(name="demo", text=text, etag=etag, creation=creation)


@pytest.fixture
async def elsewhere(database: Database, migrated: str) -> AsyncIterator[Database]:
    """The same database, as another process has it open."""
    other = open_database(migrated)
    yield other
    other.close()


@pytest.mark.parametrize("creation", [Creation.NEVER, Creation.ALLOWED])
async def test_of_two_updates_at_once_both_survive(
    creation: Creation, database: Database, elsewhere: Database, write: WriteContext
) -> None:
    if creation is Creation.NEVER:
        await database.run(apply_deployment, write, a_deployment(), "", "")
    for number in range(1, ROUNDS):
        scale, label = (asked(f"{what} {number}", "", creation) for what in ("scale", "label"))
        await asyncio.gather(
            database.run(update_deployment, write, scale, scaled(number), ""),
            elsewhere.run(update_deployment, write, label, labelled(f"t-{number}"), ""),
        )
        held = (await database.run_read(get_deployment, "demo")).deployment
        assert held.scaling.max_replicas == number
        assert held.labels == (("team", f"t-{number}"),)


@pytest.mark.parametrize("told_before", [True, False])
async def test_of_two_updates_of_a_pools_terms_at_once_both_survive(
    told_before: bool, database: Database, elsewhere: Database, write: WriteContext
) -> None:
    for number in range(1, ROUNDS):
        pool = "onprem-fra--cpu" if told_before else f"onprem-fra--cpu-{number}"
        if told_before and number == 1:
            await database.run(set_terms, write, pool, PoolTerms(), "", "")

        def pricing(held: PoolTerms, dollars: float = number) -> PoolTerms:
            return replace(held, price_per_accelerator_hour=dollars)

        def closing(held: PoolTerms, closed: bool = number % 2 == 1) -> PoolTerms:
            return replace(held, cordoned=closed)

        await asyncio.gather(
            *(
                base.run(update_terms, write, AskedTerms(pool=pool, text=text), merge, "")
                for base, text, merge in (
                    (database, f"price {number}", pricing),
                    (elsewhere, f"cordon {number}", closing),
                )
            )
        )
        held = await database.run_read(get_terms, pool)
        assert held is not None
        assert held.terms == PoolTerms(price_per_accelerator_hour=number, cordoned=number % 2 == 1)


async def test_of_two_updates_of_an_entry_at_once_both_survive(
    database: Database, elsewhere: Database, write: WriteContext
) -> None:
    await database.run(create_entry, write, ACCELERATOR_KINDS, AcceleratorKind(name="h100"), "")

    def telling(**fields: Any) -> Merge[AcceleratorKind]:
        kind = AcceleratorKind(name="h100")
        return Merge(
            name="h100", text=str(fields), into=lambda held: replace(held or kind, **fields)
        )

    for number in range(1, ROUNDS):
        merges = telling(vendor=f"v-{number}"), telling(description=f"d-{number}")
        await asyncio.gather(
            *(
                base.run(merge_entry, write, ACCELERATOR_KINDS, merge, OnlyIf(), "")
                for base, merge in zip((database, elsewhere), merges, strict=True)
            )
        )
        held = (await database.run_read(get_entry, ACCELERATOR_KINDS, "h100")).value
        assert (held.vendor, held.description) == (f"v-{number}", f"d-{number}")


def test_a_repeated_update_has_the_first_answer_whatever_happened_since(
    database: Database, write: WriteContext
) -> None:
    def refuse(held: Deployment | None) -> Deployment:
        raise AssertionError("a repeat is not made again")

    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
    with database.write() as session:
        first = update_deployment(session, write, asked("scale"), scaled(7), "once")
    with database.write() as session:
        update_deployment(session, write, asked("label"), labelled("blue"), "")
    with database.write() as session:
        assert update_deployment(session, write, asked("scale"), refuse, "once") == first
        now = get_deployment(session, "demo").deployment
    assert (now.scaling.max_replicas, now.labels) == (7, (("team", "blue"),))
    others = asked("label"), asked("scale", "etag"), asked("scale", "", Creation.ALLOWED)
    for other in others:
        with pytest.raises(InvalidInput, match="different call"), database.write() as session:
            update_deployment(session, write, other, refuse, "once")


def test_a_repeated_update_of_an_entry_has_the_first_answer(
    database: Database, write: WriteContext
) -> None:
    def telling(vendor: str) -> Merge[AcceleratorKind]:
        kind = AcceleratorKind(name="h100")
        return Merge(
            name="h100", text=vendor, into=lambda held: replace(held or kind, vendor=vendor)
        )

    only = OnlyIf(allow_missing=True)
    with database.write() as session:
        first = merge_entry(session, write, ACCELERATOR_KINDS, telling("nvidia"), only, "once")
        merge_entry(session, write, ACCELERATOR_KINDS, telling("other"), only, "")
    with database.write() as session:
        again = merge_entry(session, write, ACCELERATOR_KINDS, telling("nvidia"), only, "once")
        now = get_entry(session, ACCELERATOR_KINDS, "h100")
    assert (again, now.value.vendor) == (first, "other")
    with pytest.raises(InvalidInput, match="different call"), database.write() as session:
        merge_entry(session, write, ACCELERATOR_KINDS, telling("third"), only, "once")
    with pytest.raises(Conflict), database.write() as session:
        merge_entry(session, write, ACCELERATOR_KINDS, telling("x"), OnlyIf(etag="stale"), "")


def test_an_update_changes_nothing_where_applying_would_not(
    database: Database, write: WriteContext
) -> None:
    with pytest.raises(NotFound), database.write() as session:
        update_deployment(session, write, asked("scale"), scaled(7), "")
    missing = asked("scale", "", Creation.ALLOWED)
    with database.write() as session:
        made = update_deployment(session, write, missing, scaled(7), "")
        same = update_deployment(session, write, missing, scaled(7), "")
        apply_deployment(session, write, a_deployment("other"), "", "")
    assert (made.outcome, same.outcome) == (ApplyOutcome.CREATED, ApplyOutcome.UNCHANGED)
    assert made.stored.deployment.revision.number == 1
    with pytest.raises(Conflict), database.write() as session:
        update_deployment(session, write, asked("scale", "stale"), scaled(8), "")

    def rival(held: Deployment | None) -> Deployment:
        assert held is not None
        model = replace(held.revision.base_model, served_name="other")
        return replace(held, revision=replace(held.revision, base_model=model))

    with pytest.raises(AlreadyExists), database.write() as session:
        update_deployment(session, write, asked("rival"), rival, "")
    with database.write() as session:
        mark_deleting(session, write, "demo", "", "")
    with pytest.raises(Infeasible), database.write() as session:
        update_deployment(session, write, asked("scale"), scaled(9), "")
