"""Join tokens: taken apart whole or not at all; and which key speaks for a plane."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.fleet.joining import (
    AUTHORITY_BYTES_MAX,
    CHARACTERS_MAX,
    PlaneIdentity,
    PlaneInvite,
    digest_of_proof,
    parse_token,
    plane_of_proof,
    proof_text,
    refusal_of,
    token_text,
)
from tests.fakes.clock import START

SECRET = "s" * 42 + "_"
PROOF = proof_text("fra", SECRET)
KEY, OTHER = bytes(32), bytes([1]) * 32
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
SECRETS = st.text("abcXYZ019-_", min_size=43, max_size=43)
AUTHORITIES = st.binary(min_size=1, max_size=AUTHORITY_BYTES_MAX)


@given(plane=NAMES, secret=SECRETS, authority=AUTHORITIES)
def test_a_token_is_taken_apart_into_what_it_was_made_of(
    plane: str, secret: str, authority: bytes
) -> None:
    proof = proof_text(plane, secret)
    text = token_text(proof, authority)
    assert len(text) <= CHARACTERS_MAX
    token = parse_token(text)
    assert (token.plane, token.proof, token.authority) == (plane, proof, authority)


@given(st.text(max_size=300))
def test_what_is_no_token_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="no join token") as caught:
        parse_token(text)
    assert len(text) < 8 or text not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        PROOF,
        f"{PROOF}_",
        f"{PROOF}_A",
        f"skj_Fra_{SECRET}_AAAA",
        f"skj_{'f' * 64}_{SECRET}_AAAA",
        f"{PROOF}_AAAA\n",
        f"{PROOF}_{'A' * CHARACTERS_MAX}",
    ],
)
def test_a_token_that_lacks_a_part_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no join token"):
        parse_token(text)


def test_another_plane_or_secret_has_another_digest() -> None:
    assert plane_of_proof(PROOF) == "fra"
    assert plane_of_proof(f"{PROOF}x") is None
    others = (proof_text("aws", SECRET), proof_text("fra", "t" + SECRET[1:]))
    assert len({digest_of_proof(proof) for proof in (PROOF, *others)}) == 3


def test_an_invite_is_open_until_it_is_used_or_its_time_is_over() -> None:
    ends = START + timedelta(hours=1)
    invite = PlaneInvite(plane="fra", creator="user:root", created_at=START, expires_at=ends)
    assert invite.is_open(START)
    assert not invite.is_open(ends)
    used = PlaneInvite(
        plane="fra", creator="user:root", created_at=START, expires_at=ends, used_at=START
    )
    assert not used.is_open(START)


def test_a_plane_of_which_nothing_is_known_is_judged_by_its_certificate_alone() -> None:
    assert refusal_of(None, KEY) == ""


def test_the_key_that_joined_last_speaks_for_a_plane() -> None:
    identity = PlaneIdentity(plane="fra", key_digest=KEY, joined_at=START)
    assert refusal_of(identity, KEY) == ""
    assert "another key" in refusal_of(identity, OTHER)


def test_no_key_speaks_for_a_revoked_plane() -> None:
    for digest in (KEY, b""):
        identity = PlaneIdentity(plane="fra", key_digest=digest, revoked_at=START)
        assert "was revoked" in refusal_of(identity, KEY)
