"""API keys as they are stored: once for each request, bounded, told no more once revoked."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import api_keys
from control_plane.store.api_keys import (
    ENDED_KEPT,
    KeyRecord,
    adopt_api_keys,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from control_plane.store.changes import get_change, last_sequence
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.snapshot import renew
from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.token_budget import BudgetPeriod
from skerry.plumbing.errors import AlreadyExists, Exhausted, InvalidInput, NotFound
from skerry.wire.api_keys import key_ring_from_proto, key_ring_to_proto
from tests.fakes.clock import START

DIGEST, OTHER = bytes(32), bytes([1]) * 32
KEY = KeyRecord(
    name="team-a",
    terms=KeyTerms(deployments=("demo",), requests_per_minute=60, concurrent_requests=4),
    creator="user:root",
    created_at=START,
)


async def test_what_is_made_is_read_back_whole_and_its_change_has_no_digest(
    database: Database, write: WriteContext
) -> None:
    terms = replace(
        KEY.terms, tokens_per_minute=600, budget_tokens=10**12, budget_period=BudgetPeriod.DAY
    )
    key = replace(KEY, terms=terms, expires_at=START + timedelta(days=1))
    await database.run(create_api_key, write, key, DIGEST, "")
    (stored,) = await database.run_read(list_api_keys)
    assert (stored.record, stored.digest, stored.revoked_at) == (key, DIGEST, None)
    change = await database.run_read(lambda s: get_change(s, last_sequence(s)))
    assert (change.kind, change.subject) == ("api-key.created", "projects/default/apiKeys/team-a")
    assert DIGEST.hex() not in repr(change)


async def test_what_gateways_are_told_of_a_key_is_what_the_link_brings_them(
    database: Database, write: WriteContext
) -> None:
    ends = START.replace(microsecond=682_133) + timedelta(days=90)
    await database.run(create_api_key, write, replace(KEY, expires_at=ends), DIGEST, "")
    (stored,) = await database.run_read(list_api_keys)
    assert key_ring_from_proto(key_ring_to_proto((stored.key,))) == (stored.key,)


async def test_a_request_that_is_repeated_is_one_key_and_a_revoked_name_is_free_again(
    database: Database, write: WriteContext
) -> None:
    made = await database.run(create_api_key, write, KEY, DIGEST, "r-1")
    assert await database.run(create_api_key, write, KEY, DIGEST, "r-1") == made
    with pytest.raises(InvalidInput, match="different call"):
        await database.run(create_api_key, write, KEY, OTHER, "r-1")
    with pytest.raises(AlreadyExists):
        await database.run(create_api_key, write, KEY, DIGEST, "r-2")
    for _ in range(2):
        await database.run(revoke_api_key, write, "team-a", "r-3")
    with pytest.raises(NotFound):
        await database.run(revoke_api_key, write, "team-a", "r-4")
    await database.run(create_api_key, write, KEY, OTHER, "r-5")
    (stored,) = await database.run_read(list_api_keys)
    assert (stored.digest, stored.revoked_at) == (OTHER, None)


async def test_one_that_would_have_ended_already_is_not_made(
    database: Database, write: WriteContext
) -> None:
    with pytest.raises(InvalidInput, match="ended already"):
        await database.run(create_api_key, write, replace(KEY, expires_at=START), DIGEST, "")


async def test_their_number_is_bounded_and_what_was_revoked_long_ago_is_forgotten(
    database: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "KEYS_MAX", 1)
    await database.run(create_api_key, write, KEY, DIGEST, "")
    more = replace(KEY, name="more")
    with pytest.raises(Exhausted, match="as many as may be"):
        await database.run(create_api_key, write, more, OTHER, "")
    await database.run(revoke_api_key, write, "team-a", "")
    later = replace(write, now=START + ENDED_KEPT + timedelta(hours=1))
    await database.run(create_api_key, later, more, OTHER, "")
    (stored,) = await database.run_read(list_api_keys)
    assert stored.record.name == "more"


async def test_who_reads_the_whole_store_sees_a_key_that_was_made_and_revoked_since(
    database: Database, write: WriteContext
) -> None:
    first = await database.run_read(renew, None)
    assert first.api_keys == ()
    await database.run(create_api_key, write, KEY, DIGEST, "")
    second = await database.run_read(renew, first)
    assert [one.key.name for one in second.api_keys] == ["team-a"]
    await database.run(revoke_api_key, write, "team-a", "")
    (third,) = (await database.run_read(renew, second)).api_keys
    assert third.revoked_at is not None


async def test_keys_that_planes_hold_are_kept_where_nobody_knows_of_them(
    database: Database, write: WriteContext
) -> None:
    await database.run(create_api_key, write, KEY, DIGEST, "")
    await database.run(revoke_api_key, write, "team-a", "")
    held = [ApiKey(name=name, digest=OTHER, terms=KEY.terms) for name in ("team-a", "team-b")]
    for _ in range(2):
        await database.run(adopt_api_keys, write, held)
    first, second = await database.run_read(list_api_keys)
    assert (first.record.name, first.digest) == ("team-a", DIGEST)
    assert first.revoked_at is not None, "a revoked one does not come back"
    assert (second.key.name, second.digest, second.revoked_at) == ("team-b", OTHER, None)
