"""Invites and identities as they are stored: one use, an end, a key that stays, and revocation."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import joining
from control_plane.store.changes import get_change, last_sequence
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.joining import (
    ENDED_KEPT,
    Enrolled,
    adopt_revoked_planes,
    create_plane_invite,
    join_plane,
    list_plane_identities,
    list_plane_invites,
    renew_plane,
    revoke_plane,
    withdraw_plane_invite,
)
from control_plane.store.planes import record_report
from skerry.fleet.joining import PlaneIdentity, PlaneInvite
from skerry.plumbing.errors import (
    Conflict,
    Denied,
    Exhausted,
    InvalidInput,
    NotFound,
    Unauthenticated,
)
from tests.builders import a_report
from tests.fakes.clock import START

DIGEST, OTHER = bytes(32), bytes([1]) * 32
KEY, OTHER_KEY = bytes([2]) * 32, bytes([3]) * 32
HOUR, MONTH = timedelta(hours=1), timedelta(days=30)
INVITE = PlaneInvite(plane="fra", creator="user:root", created_at=START, expires_at=START + HOUR)
ENROLLED = Enrolled(plane="fra", key_digest=KEY, serial="1f", expires_at=START + MONTH)
JOINED = PlaneIdentity(
    plane="fra", key_digest=KEY, serial="1f", joined_at=START, expires_at=START + MONTH
)


def later(write: WriteContext, seconds: timedelta) -> WriteContext:
    return replace(write, now=write.now + seconds)


async def last_kind(database: Database) -> str:
    change = await database.run_read(lambda s: get_change(s, last_sequence(s)))
    assert DIGEST.hex() not in repr(change)
    return change.kind


async def joined(database: Database, write: WriteContext) -> None:
    await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    await database.run(join_plane, write, DIGEST, ENROLLED)


async def test_an_invite_lets_its_plane_in_once(database: Database, write: WriteContext) -> None:
    made = await database.run(create_plane_invite, write, INVITE, DIGEST, "r-1")
    assert await database.run(create_plane_invite, write, INVITE, DIGEST, "r-1") == made == INVITE
    assert await last_kind(database) == "plane.invited"
    assert await database.run(join_plane, write, DIGEST, ENROLLED) == JOINED
    assert await last_kind(database) == "plane.joined"
    with pytest.raises(Unauthenticated, match="opens nothing"):
        await database.run(join_plane, write, DIGEST, replace(ENROLLED, key_digest=OTHER_KEY))
    (invite,) = await database.run_read(list_plane_invites)
    assert invite.used_at == START
    assert await database.run_read(list_plane_identities) == (JOINED,)


async def test_who_lost_the_answer_may_ask_again_with_the_same_key(
    database: Database, write: WriteContext
) -> None:
    await joined(database, write)
    again = replace(ENROLLED, serial="2f")
    assert (await database.run(join_plane, write, DIGEST, again)).serial == "2f"
    with pytest.raises(Unauthenticated):
        await database.run(join_plane, later(write, HOUR), DIGEST, again)


@pytest.mark.parametrize(
    ("digest", "enrolled", "after"),
    [
        (OTHER, ENROLLED, timedelta()),
        (DIGEST, replace(ENROLLED, plane="aws"), timedelta()),
        (DIGEST, ENROLLED, HOUR),
    ],
)
async def test_what_proves_nothing_lets_nobody_in(
    database: Database, write: WriteContext, digest: bytes, enrolled: Enrolled, after: timedelta
) -> None:
    await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    with pytest.raises(Unauthenticated, match="opens nothing"):
        await database.run(join_plane, later(write, after), digest, enrolled)
    assert await database.run_read(list_plane_identities) == ()


async def test_a_withdrawn_invite_opens_nothing(database: Database, write: WriteContext) -> None:
    await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    for _ in range(2):
        await database.run(withdraw_plane_invite, write, "fra", "r-1")
    assert await last_kind(database) == "plane.uninvited"
    with pytest.raises(Unauthenticated):
        await database.run(join_plane, write, DIGEST, ENROLLED)
    with pytest.raises(NotFound):
        await database.run(withdraw_plane_invite, write, "fra", "r-2")


async def test_one_invite_a_plane_is_open_and_another_after_it_ended(
    database: Database, write: WriteContext
) -> None:
    await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    with pytest.raises(Conflict, match="invited already"):
        await database.run(create_plane_invite, write, INVITE, OTHER, "")
    again = replace(INVITE, created_at=START + HOUR, expires_at=START + 2 * HOUR)
    await database.run(create_plane_invite, later(write, HOUR), again, OTHER, "")
    with pytest.raises(Unauthenticated):
        await database.run(join_plane, later(write, HOUR), DIGEST, ENROLLED)
    await database.run(join_plane, later(write, HOUR), OTHER, ENROLLED)


async def test_who_joins_in_place_of_another_is_named_by_the_operator(
    database: Database, write: WriteContext
) -> None:
    await joined(database, write)
    with pytest.raises(Conflict, match="--replace"):
        await database.run(create_plane_invite, write, INVITE, OTHER, "")
    replacing = replace(INVITE, replaces=True)
    await database.run(create_plane_invite, write, replacing, OTHER, "")
    await database.run(join_plane, write, OTHER, replace(ENROLLED, key_digest=OTHER_KEY))
    with pytest.raises(Denied, match="another key"):
        await database.run(renew_plane, write, ENROLLED)


async def test_a_plane_that_never_joined_is_not_put_out_by_mistake_either(
    database: Database, write: WriteContext
) -> None:
    await database.run(record_report, write, a_report("fra"))
    with pytest.raises(Conflict, match="--replace"):
        await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    await database.run(create_plane_invite, write, replace(INVITE, replaces=True), DIGEST, "")
    await database.run(revoke_plane, write, "fra", "")
    await database.run(create_plane_invite, write, INVITE, OTHER, "")


async def test_a_certificate_is_renewed_for_its_key_alone(
    database: Database, write: WriteContext
) -> None:
    with pytest.raises(Denied, match="not joined by invitation"):
        await database.run(renew_plane, write, ENROLLED)
    await joined(database, write)
    further = replace(ENROLLED, serial="2f", expires_at=START + 2 * MONTH)
    renewed = await database.run(renew_plane, later(write, HOUR), further)
    assert renewed == replace(JOINED, serial="2f", expires_at=START + 2 * MONTH)
    assert await last_kind(database) == "plane.joined"  # a renewal is no change of the fleet
    with pytest.raises(Denied, match="another key"):
        await database.run(renew_plane, write, replace(further, key_digest=OTHER_KEY))


async def test_who_comes_back_after_its_certificate_ended_is_recorded(
    database: Database, write: WriteContext
) -> None:
    await joined(database, write)
    further = replace(ENROLLED, serial="2f", expires_at=START + 2 * MONTH)
    await database.run(renew_plane, later(write, MONTH), further)
    assert await last_kind(database) == "plane.rejoined"


async def test_a_revoked_plane_stays_out_until_it_is_invited_anew(
    database: Database, write: WriteContext
) -> None:
    await joined(database, write)
    for request in ("r-1", "r-1", "r-2"):
        await database.run(revoke_plane, write, "fra", request)
    assert await last_kind(database) == "plane.revoked"
    assert await database.run_read(list_plane_identities) == (replace(JOINED, revoked_at=START),)
    with pytest.raises(Denied, match="was revoked"):
        await database.run(renew_plane, write, ENROLLED)
    with pytest.raises(Unauthenticated):
        await database.run(join_plane, write, DIGEST, ENROLLED)
    await database.run(create_plane_invite, write, INVITE, OTHER, "")
    await database.run(join_plane, write, OTHER, replace(ENROLLED, key_digest=OTHER_KEY))
    (identity,) = await database.run_read(list_plane_identities)
    assert (identity.key_digest, identity.revoked_at) == (OTHER_KEY, None)


async def test_a_plane_with_a_certificate_of_old_and_an_open_invite_are_revoked_too(
    database: Database, write: WriteContext
) -> None:
    await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    await database.run(revoke_plane, write, "fra", "")
    assert await database.run_read(list_plane_identities) == (
        PlaneIdentity(plane="fra", revoked_at=START),
    )
    assert await database.run_read(list_plane_invites) == ()


async def test_invites_are_bounded_and_ended_ones_forgotten(
    database: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "INVITES_MAX", 2)
    for plane in ("aws", "gcp"):
        await database.run(create_plane_invite, write, replace(INVITE, plane=plane), DIGEST, "")
    with pytest.raises(Exhausted, match="withdraw"):
        await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    with pytest.raises(InvalidInput, match="ended already"):
        await database.run(create_plane_invite, later(write, HOUR), INVITE, DIGEST, "")
    past = later(write, HOUR + ENDED_KEPT + HOUR)
    fresh = replace(INVITE, expires_at=past.now + HOUR)
    await database.run(create_plane_invite, past, fresh, DIGEST, "")
    assert await database.run_read(list_plane_invites) == (fresh,)


async def test_whom_planes_hold_as_revoked_is_put_out_where_the_database_forgot_it(
    database: Database, write: WriteContext
) -> None:
    await joined(database, write)
    for _ in range(2):
        await database.run(adopt_revoked_planes, write, ("edge-ams", "fra"))
    assert await database.run_read(list_plane_identities) == (
        PlaneIdentity(plane="edge-ams", revoked_at=START),
        replace(JOINED, revoked_at=START),
    )


async def test_a_plane_that_came_since_the_invitation_keeps_its_name(
    database: Database, write: WriteContext
) -> None:
    await database.run(create_plane_invite, write, INVITE, DIGEST, "")
    await database.run(record_report, write, a_report("fra"))
    with pytest.raises(Denied, match="came since"):
        await database.run(join_plane, write, DIGEST, ENROLLED)
