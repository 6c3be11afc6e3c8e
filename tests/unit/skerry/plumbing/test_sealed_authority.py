"""An authority whose key is sealed issues as any other, and is never lost to a missing key."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from skerry.plumbing.certificates import (
    AUTHORITY_DAYS,
    PUBLISHED_DAYS,
    AuthorityKey,
    Subject,
    authority_keys,
    create_authority,
    ensure_authority,
    ensure_certificate,
    read_key,
    seal_authority,
)
from skerry.plumbing.errors import Conflict, Infeasible
from skerry.plumbing.files import lock_directory
from skerry.plumbing.sealing import PLAIN, Keyring, SealingKey

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PARTY = Subject(name="party", dns_names=("localhost",))
OLD, NEW = SealingKey(b"o" * 32), SealingKey(b"n" * 32)
BY_OLD = Keyring((OLD,))


def whole(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_a_sealed_authority_issues_and_its_key_is_nowhere_in_its_folder(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    ensure_authority(directory, "root", NOW, BY_OLD)
    files = ensure_certificate(directory, tmp_path, PARTY, NOW, keyring=BY_OLD)
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    )
    assert all(b"PRIVATE KEY" not in data for data in whole(directory).values())
    assert (directory / "ca.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_missing_is_told_and_nothing_replaces_what_is_sealed(tmp_path: Path) -> None:
    create_authority(tmp_path, "root", NOW, BY_OLD)
    before = whole(tmp_path)
    for keyring in (PLAIN, Keyring((NEW,))):
        with pytest.raises(Infeasible, match=OLD.id):
            ensure_authority(tmp_path, "root", NOW, keyring)
        with pytest.raises(Infeasible, match=OLD.id):
            ensure_certificate(tmp_path, tmp_path / "out", PARTY, NOW, keyring=keyring)
        with pytest.raises(Infeasible, match=OLD.id):
            seal_authority(tmp_path, keyring, Keyring((NEW,)))
    assert whole(tmp_path) == before


def test_a_successor_whose_sealing_key_is_missing_is_not_made_anew(tmp_path: Path) -> None:
    create_authority(tmp_path, "root", NOW)
    later = NOW + timedelta(days=AUTHORITY_DAYS // 2 + 1)
    ensure_authority(tmp_path, "root", later, BY_OLD)
    before = whole(tmp_path)
    with pytest.raises(Infeasible, match=OLD.id):
        ensure_authority(tmp_path, "root", later, PLAIN)
    assert whole(tmp_path) == before


def test_a_successor_that_was_sealed_issues_in_its_time(tmp_path: Path) -> None:
    create_authority(tmp_path, "root", NOW, BY_OLD)
    later = NOW + timedelta(days=AUTHORITY_DAYS // 2 + 1)
    ensure_authority(tmp_path, "root", later, BY_OLD)
    assert [one.sealed_by for one in authority_keys(tmp_path)] == [OLD.id, OLD.id]
    successor = read_key(tmp_path / "next.key", BY_OLD).public_key()
    rotated = Keyring((NEW, OLD))
    ensure_authority(tmp_path, "root", later + timedelta(days=PUBLISHED_DAYS), rotated)
    (issuing,) = authority_keys(tmp_path)
    assert issuing.sealed_by == NEW.id
    assert read_key(tmp_path / "ca.key", rotated).public_key() == successor


def test_keys_are_sealed_rotated_and_unsealed_and_stay_the_same_key(tmp_path: Path) -> None:
    create_authority(tmp_path, "root", NOW)
    path = tmp_path / "ca.key"
    plain = path.read_bytes()
    both = Keyring((NEW, OLD))
    for opening, sealing, by in (
        (BY_OLD, BY_OLD, OLD.id),
        (both, both, NEW.id),
        (Keyring((NEW,)), PLAIN, None),
    ):
        assert seal_authority(tmp_path, opening, sealing) == (
            AuthorityKey(path=path, sealed_by=by),
        )
        assert (plain in path.read_bytes()) == (by is None)
        assert seal_authority(tmp_path, opening, sealing) == ()
    assert path.read_bytes() == plain
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_do_not_write_keys_at_once(tmp_path: Path) -> None:
    create_authority(tmp_path, "root", NOW)
    with lock_directory(tmp_path), pytest.raises(Conflict):
        seal_authority(tmp_path, BY_OLD, BY_OLD)
