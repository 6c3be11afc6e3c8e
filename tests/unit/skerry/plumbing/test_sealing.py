"""What is sealed is opened by its key alone, as what it is, and nothing shows a key."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Corrupt, Infeasible, InvalidInput
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.sealing import (
    KEYS_MAX,
    PLAIN,
    Keyring,
    SealingKey,
    check_references,
    keyring_of,
    new_key_text,
    sealed_by,
)

OLD, NEW = SealingKey(b"o" * 32), SealingKey(b"n" * 32)
WHAT, WHERE = "the authority's key", "/pki/ca.key"
CANARY = b"canaryofwhatissealed0001"


@given(st.binary(max_size=300))
def test_what_is_sealed_is_opened_whole_and_does_not_show_in_it(data: bytes) -> None:
    sealed = Keyring((NEW, OLD)).seal(CANARY + data, WHAT)
    assert sealed_by(sealed) == NEW.id
    assert CANARY not in sealed
    assert base64.b64encode(CANARY) not in sealed
    assert Keyring((NEW,)).open(sealed, WHAT, WHERE) == CANARY + data
    assert Keyring((OLD, NEW)).open(sealed, WHAT, WHERE) == CANARY + data


def test_without_keys_bytes_stay_as_they_are_and_plain_ones_are_read_by_any_keyring() -> None:
    assert PLAIN.seal(CANARY, WHAT) == CANARY
    assert Keyring((NEW,)).open(CANARY, WHAT, WHERE) == CANARY
    assert sealed_by(CANARY) is None


@given(st.data())
def test_whatever_is_altered_is_not_taken_for_what_was_sealed(data: st.DataObject) -> None:
    sealed = Keyring((NEW,)).seal(CANARY, WHAT)
    # Behind the id of the key: with another id it is the wrong key, and without the mark plain.
    begins = len(b"skerry-sealed-1 ") + 16
    at = data.draw(st.integers(begins, len(sealed) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != sealed[at]))
    with pytest.raises(Corrupt, match=WHERE):
        Keyring((NEW,)).open(sealed[:at] + bytes([byte]) + sealed[at + 1 :], WHAT, WHERE)
    with pytest.raises(Corrupt):
        Keyring((NEW,)).open(sealed[:at], WHAT, WHERE)


def test_what_was_sealed_as_one_thing_is_not_opened_as_another() -> None:
    sealed = Keyring((NEW,)).seal(CANARY, WHAT)
    with pytest.raises(Corrupt, match="something else"):
        Keyring((NEW,)).open(sealed, "something else", WHERE)


@pytest.mark.parametrize("keyring", [PLAIN, Keyring((OLD,))])
def test_a_key_that_is_missing_is_named_with_what_to_do(keyring: Keyring) -> None:
    sealed = Keyring((NEW,)).seal(CANARY, WHAT)
    with pytest.raises(Infeasible, match="sealing_keys") as refused:
        keyring.open(sealed, WHAT, WHERE)
    assert NEW.id in str(refused.value)
    assert WHERE in str(refused.value)


def test_a_new_key_is_read_as_it_is_written_and_shown_nowhere() -> None:
    ids = SystemIds(SystemClock())
    text, other = new_key_text(ids), new_key_text(ids)
    keyring = keyring_of([text, other])
    assert len({key.id for key in keyring.keys}) == 2
    assert text.removeprefix("sks_") not in repr(keyring)
    assert repr(keyring.keys[0].secret) not in repr(keyring)


@pytest.mark.parametrize("text", ["", "sks_", "sks_" + "a" * 42, "canary" * 8, "sks_" + "é" * 43])
def test_what_is_no_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidInput, match="new-key") as refused:
        keyring_of([text])
    assert text in ("", "sks_") or text not in str(refused.value)


@pytest.mark.parametrize(
    "references", [("sks_" + "a" * 43,), ("file:relative",), ("env:A",) * (KEYS_MAX + 1)]
)
def test_keys_are_told_by_where_they_are_and_never_shown(references: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"env:|at most") as refused:
        check_references(references)
    assert references[0] not in str(refused.value)
