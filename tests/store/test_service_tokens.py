"""Service tokens as they are stored: once for each request, bounded, gone when revoked."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import service_tokens
from control_plane.store.changes import get_change, last_sequence
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.service_tokens import (
    EXPIRED_KEPT,
    create_service_token,
    list_service_tokens,
    note_use,
    revoke_service_token,
)
from skerry.fleet.access import Grant, Role, ServiceToken
from skerry.plumbing.errors import (
    AlreadyExists,
    Exhausted,
    InvalidInput,
    NotFound,
    StaleGeneration,
)
from tests.fakes.clock import START

DIGEST, OTHER = bytes(32), bytes([1]) * 32
TOKEN = ServiceToken(
    name="ci",
    grant=Grant(role=Role.OPERATOR, projects=("default",), planes=("fra",)),
    creator="user:root",
    created_at=START,
)


async def held(database: Database) -> tuple[ServiceToken, ...]:
    return tuple(stored.token for stored in await database.run_read(list_service_tokens))


async def test_what_is_made_is_read_back_whole_and_its_change_has_no_digest(
    database: Database, write: WriteContext
) -> None:
    token = replace(TOKEN, expires_at=START + timedelta(days=1))
    await database.run(create_service_token, write, token, DIGEST, "")
    (stored,) = await database.run_read(list_service_tokens)
    assert (stored.token, stored.digest) == (token, DIGEST)
    change = await database.run_read(lambda s: get_change(s, last_sequence(s)))
    assert (change.kind, change.subject) == (
        "token.created",
        "projects/default/serviceTokens/ci",
    )
    assert DIGEST.hex() not in repr(change)
    assert change.after["grant"] == {"role": "operator", "projects": ["default"], "planes": ["fra"]}


async def test_a_request_that_is_repeated_is_one_token(
    database: Database, write: WriteContext
) -> None:
    made = await database.run(create_service_token, write, TOKEN, DIGEST, "r-1")
    assert await database.run(create_service_token, write, TOKEN, DIGEST, "r-1") == made
    with pytest.raises(InvalidInput, match="different call"):
        await database.run(create_service_token, write, TOKEN, OTHER, "r-1")
    with pytest.raises(AlreadyExists):
        await database.run(create_service_token, write, TOKEN, DIGEST, "r-2")
    for _ in range(2):
        await database.run(revoke_service_token, write, TOKEN, "r-3")
    assert await held(database) == ()
    with pytest.raises(NotFound):
        await database.run(revoke_service_token, write, TOKEN, "r-4")


async def test_one_that_was_made_anew_meanwhile_is_not_revoked(
    database: Database, write: WriteContext
) -> None:
    anew = replace(TOKEN, created_at=START + timedelta(seconds=1))
    await database.run(create_service_token, write, anew, DIGEST, "")
    with pytest.raises(NotFound):
        await database.run(revoke_service_token, write, TOKEN, "")
    assert await held(database) == (anew,)


async def test_their_number_is_bounded_and_what_ended_long_ago_makes_room(
    database: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_tokens, "TOKENS_MAX", 2)
    short = replace(TOKEN, name="short", expires_at=START + timedelta(hours=1))
    for token in (short, TOKEN):
        await database.run(create_service_token, write, token, DIGEST, "")
    more = replace(TOKEN, name="more")
    with pytest.raises(Exhausted, match="as many as may be"):
        await database.run(create_service_token, write, more, DIGEST, "")
    later = replace(write, now=START + timedelta(hours=2) + EXPIRED_KEPT)
    await database.run(create_service_token, later, more, DIGEST, "")
    assert {token.name for token in await held(database)} == {"ci", "more"}


async def test_use_is_noted_without_a_change_and_a_deposed_leader_writes_nothing(
    database: Database, write: WriteContext
) -> None:
    await database.run(create_service_token, write, TOKEN, DIGEST, "")
    before = await database.run_read(last_sequence)
    await database.run(note_use, replace(write, now=START + timedelta(hours=1)), "ci")
    assert (await held(database))[0].last_used_at == START + timedelta(hours=1)
    assert await database.run_read(last_sequence) == before
    stale = replace(write, epoch=write.epoch + 1)
    for call in (
        database.run(note_use, stale, "ci"),
        database.run(revoke_service_token, stale, TOKEN, ""),
        database.run(create_service_token, stale, replace(TOKEN, name="x"), DIGEST, ""),
    ):
        with pytest.raises(StaleGeneration):
            await call
