"""Rollouts as they are stored: many in one transaction, all of them or none."""

from dataclasses import replace

import pytest
from sqlalchemy import event

from control_plane.store.changes import list_changes
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.leadership import take_leadership
from control_plane.store.rollouts import (
    PAIRS_OF_QUERY_MAX,
    TOGETHER_MAX,
    in_batches,
    list_rollouts,
    put_rollouts,
)
from skerry.fleet.rollout import Rollout, Stage
from skerry.plumbing.errors import StaleGeneration
from tests.fakes.clock import START

Moved = tuple[Rollout, Rollout | None]


def begun(count: int) -> list[Moved]:
    """So many rollouts that nobody has stored yet."""
    return [
        (Rollout(deployment=f"d{n:05d}", revision=1, stage=Stage.FIRST, since=START), None)
        for n in range(count)
    ]


def test_many_rollouts_are_one_transaction_each_with_its_change(
    database: Database, write: WriteContext
) -> None:
    moved = begun(PAIRS_OF_QUERY_MAX + 3)
    with database.write() as session:
        put_rollouts(session, write, moved)
    with database.read() as session:
        assert list_rollouts(session) == tuple(rollout for rollout, _ in moved)
        kinds = [one.kind for one in list_changes(session, 0, 1_000)]
    assert kinds.count("rollout.first") == len(moved)
    again = [(replace(one, stage=Stage.COMPLETE), one) for one, _ in moved]
    with database.write() as session:
        put_rollouts(session, write, again)
    with database.read() as session:
        assert {one.stage for one in list_rollouts(session)} == {Stage.COMPLETE}


def test_one_that_was_changed_meanwhile_has_none_of_its_batch_stored(
    database: Database, write: WriteContext
) -> None:
    moved = begun(3)
    with database.write() as session:
        put_rollouts(session, write, moved[1:2])
    with pytest.raises(StaleGeneration, match=r"d00001.*read it again"):
        with database.write() as session:
            put_rollouts(session, write, moved)
    with database.read() as session:
        assert [one.deployment for one in list_rollouts(session)] == ["d00001"]


def test_a_deposed_leader_stores_none_of_many(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        take_leadership(session, "cp-2", START)
    with pytest.raises(StaleGeneration), database.write() as session:
        put_rollouts(session, write, begun(3))
    with database.read() as session:
        assert list_rollouts(session) == ()


def test_batches_are_bounded_whole_and_in_order() -> None:
    moved = begun(2 * TOGETHER_MAX + 1)
    batches = list(in_batches(moved))
    assert [len(batch) for batch in batches] == [TOGETHER_MAX, TOGETHER_MAX, 1]
    assert [one for batch in batches for one in batch] == moved


def test_a_thousand_rollouts_are_a_few_commits(database: Database, write: WriteContext) -> None:
    """At a start every deployment has one; a commit is an fsync, some 160 a second."""
    commits: list[object] = []
    event.listen(database._engine, "commit", commits.append)
    moved = begun(1_000)
    for batch in in_batches(moved):
        with database.write() as session:
            put_rollouts(session, write, batch)
    assert len(commits) == 1_000 // TOGETHER_MAX
