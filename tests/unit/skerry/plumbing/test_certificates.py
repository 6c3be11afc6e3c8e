"""Certificates are made once, renewed at half their life, and trusted across a new root."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from skerry.plumbing.certificates import (
    AUTHORITY_DAYS,
    PUBLISHED_DAYS,
    Subject,
    create_authority,
    ensure_authority,
    ensure_certificate,
    issue,
    renewal_time,
)
from skerry.plumbing.errors import InvalidInput, NotFound
from skerry.plumbing.rpc import TlsFiles

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PARTY = Subject(
    name="party",
    uris=("spiffe://skerry/plane/a",),
    dns_names=("localhost",),
    addresses=("127.0.0.1", "::1"),
)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A fresh authority's directory."""
    directory = tmp_path / "authority"
    create_authority(directory, "test root", NOW)
    return directory


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def snapshot(files: TlsFiles) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in (files.ca, files.cert, files.key))


def test_certificate_names_its_subject_and_serves_both_ends(
    authority: Path, tmp_path: Path
) -> None:
    certificate = load(issue(authority, tmp_path, PARTY, NOW).cert)
    certificate.verify_directly_issued_by(load(authority / "ca.pem"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [*PARTY.uris]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_keys_are_readable_by_their_owner_alone(authority: Path, tmp_path: Path) -> None:
    files = issue(authority, tmp_path, PARTY, NOW)
    for key in (files.key, authority / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_certificate_is_valid_for_clocks_five_minutes_behind(
    authority: Path, tmp_path: Path
) -> None:
    certificate = load(issue(authority, tmp_path, PARTY, NOW).cert)
    assert certificate.not_valid_before_utc <= NOW - timedelta(minutes=5)


def test_ensuring_twice_changes_nothing(tmp_path: Path) -> None:
    directory, out = tmp_path / "authority", tmp_path / "out"
    ensure_authority(directory, "root", NOW)
    first = snapshot(ensure_certificate(directory, out, PARTY, NOW))
    later = NOW + timedelta(days=1)
    ensure_authority(directory, "root", later)
    assert snapshot(ensure_certificate(directory, out, PARTY, later)) == first


def test_certificate_is_renewed_at_half_its_life(authority: Path, tmp_path: Path) -> None:
    files = ensure_certificate(authority, tmp_path, PARTY, NOW, 10)
    due = renewal_time(files.cert)
    assert abs(due - (NOW + timedelta(days=5))) < timedelta(minutes=5)
    first = snapshot(files)
    before = due - timedelta(seconds=1)
    assert snapshot(ensure_certificate(authority, tmp_path, PARTY, before, 10)) == first
    assert snapshot(ensure_certificate(authority, tmp_path, PARTY, due, 10)) != first


def test_other_names_need_another_certificate(authority: Path, tmp_path: Path) -> None:
    first = snapshot(ensure_certificate(authority, tmp_path, PARTY, NOW))
    renamed = Subject(name="party", dns_names=("elsewhere",))
    assert snapshot(ensure_certificate(authority, tmp_path, renamed, NOW)) != first


@pytest.mark.parametrize("damaged", ["cert", "key"])
def test_torn_or_foreign_file_is_replaced(authority: Path, tmp_path: Path, damaged: str) -> None:
    files = ensure_certificate(authority, tmp_path, PARTY, NOW)
    path: Path = getattr(files, damaged)
    path.write_bytes((authority / ("ca.pem" if damaged == "cert" else "ca.key")).read_bytes())
    broken = snapshot(files)
    assert snapshot(ensure_certificate(authority, tmp_path, PARTY, NOW)) != broken
    path.write_bytes(b"")
    assert load(ensure_certificate(authority, tmp_path, PARTY, NOW).cert)


def test_new_root_is_trusted_beside_the_old_until_that_ends(tmp_path: Path) -> None:
    directory, out = tmp_path / "authority", tmp_path / "out"
    ensure_authority(directory, "root", NOW)
    old_root = load(directory / "ca.pem")
    later = NOW + timedelta(days=AUTHORITY_DAYS * 0.6)
    ensure_authority(directory, "root", later)
    old = ensure_certificate(directory, out, PARTY, later)
    roots = x509.load_pem_x509_certificates(old.ca.read_bytes())
    assert len(roots) == 2
    # Told of both, issued by the old one: nobody meets a certificate of a root it does not know.
    assert roots[0] == old_root
    first = load(old.cert)
    first.verify_directly_issued_by(old_root)
    just_before = later + timedelta(days=PUBLISHED_DAYS - 1)
    ensure_authority(directory, "root", just_before)
    assert x509.load_pem_x509_certificates((directory / "ca.pem").read_bytes()) == roots
    published = later + timedelta(days=PUBLISHED_DAYS)
    ensure_authority(directory, "root", published)
    files = ensure_certificate(directory, out, PARTY, published)
    assert x509.load_pem_x509_certificates(files.ca.read_bytes()) == [roots[1], old_root]
    load(files.cert).verify_directly_issued_by(roots[1])
    first.verify_directly_issued_by(old_root)
    assert [path.name for path in sorted(directory.iterdir())] == ["ca.key", "ca.pem"]
    much_later = NOW + timedelta(days=AUTHORITY_DAYS + 1)
    ensure_authority(directory, "root", much_later)
    assert old_root not in x509.load_pem_x509_certificates((directory / "ca.pem").read_bytes())


def test_a_successor_without_its_key_is_made_anew(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    ensure_authority(directory, "root", NOW)
    later = NOW + timedelta(days=AUTHORITY_DAYS * 0.6)
    ensure_authority(directory, "root", later)
    (directory / "next.key").write_bytes(b"torn")
    ensure_authority(directory, "root", later)
    published = later + timedelta(days=PUBLISHED_DAYS)
    ensure_authority(directory, "root", published)
    certificate = load(issue(directory, tmp_path, PARTY, published).cert)
    certificate.verify_directly_issued_by(load(directory / "ca.pem"))


def test_a_root_that_has_ended_is_replaced_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    ensure_authority(directory, "root", NOW)
    old_root = load(directory / "ca.pem")
    after = NOW + timedelta(days=AUTHORITY_DAYS)
    ensure_authority(directory, "root", after)
    assert x509.load_pem_x509_certificates((directory / "ca.pem").read_bytes()) != [old_root]
    certificate = load(issue(directory, tmp_path, PARTY, after).cert)
    certificate.verify_directly_issued_by(load(directory / "ca.pem"))


def test_changed_roots_reach_the_copy_of_a_current_certificate(
    authority: Path, tmp_path: Path
) -> None:
    files = ensure_certificate(authority, tmp_path / "out", PARTY, NOW)
    files.ca.unlink()
    ensure_certificate(authority, tmp_path / "out", PARTY, NOW)
    assert files.ca.read_bytes() == (authority / "ca.pem").read_bytes()


def test_certificate_without_authority_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="make one first"):
        ensure_certificate(tmp_path / "none", tmp_path, PARTY, NOW)


@pytest.mark.parametrize(
    "subject",
    [Subject(name="x"), Subject(name="x", addresses=("nowhere",)), Subject(name="x", uris=("ü",))],
)
def test_subject_that_cannot_be_written_is_refused(
    authority: Path, tmp_path: Path, subject: Subject
) -> None:
    with pytest.raises(InvalidInput):
        issue(authority, tmp_path / "out", subject, NOW)
