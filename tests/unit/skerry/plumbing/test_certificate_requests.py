"""The key never leaves who made it, and only its holder gets a certificate for it."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from skerry.plumbing.certificate_requests import (
    REQUEST_BYTES_MAX,
    check_request,
    ensure_key,
    fits,
    issue_for,
    issuer_der,
    key_digest_of,
    pem_of,
    request_of,
)
from skerry.plumbing.certificates import (
    Subject,
    create_authority,
    half_life,
    issue,
)
from skerry.plumbing.errors import InvalidInput, NotFound

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLANE = Subject(name="fra", uris=("skerry://projects/default/planes/fra",), dns_names=("fra",))


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A fresh authority's directory."""
    directory = tmp_path / "authority"
    create_authority(directory, "test root", NOW)
    return directory


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key that was just made."""
    ensure_key(tmp_path / "identity" / "plane.key")
    return tmp_path / "identity" / "plane.key"


def test_a_certificate_is_for_the_key_that_signed_the_request(authority: Path, key: Path) -> None:
    request = check_request(request_of(key, "fra"))
    issued = issue_for(authority, PLANE, request, NOW, 3_600)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(issued.roots))
    assert fits(issued.certificate, key)
    assert key_digest_of(issued.certificate) == request.key_digest
    assert issued.serial == f"{certificate.serial_number:x}"
    assert issued.expires_at == NOW + timedelta(hours=1)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [*PLANE.uris]


def test_a_key_is_made_once_and_its_owners_alone(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    before = key.read_bytes()
    ensure_key(key)
    assert key.read_bytes() == before


@pytest.mark.parametrize("seconds", [10.0, 60.0, 3_600.0, 30 * 86_400.0])
def test_no_certificate_is_past_half_its_life_when_it_is_issued(
    authority: Path, key: Path, seconds: float
) -> None:
    issued = issue_for(authority, PLANE, check_request(request_of(key, "fra")), NOW, seconds)
    due = half_life(x509.load_pem_x509_certificate(issued.certificate))
    # Times in certificates are whole seconds.
    assert NOW + timedelta(seconds=0.4 * seconds) <= due <= NOW + timedelta(seconds=seconds / 2)


def test_what_is_no_request_is_refused(key: Path, tmp_path: Path) -> None:
    whole = request_of(key, "fra")
    for damaged in (b"", b"\0\xff", whole[:-40], whole * 20, b"x" * (REQUEST_BYTES_MAX + 1)):
        with pytest.raises(InvalidInput, match="PKCS #10"):
            check_request(damaged)


def test_a_request_for_somebody_elses_key_is_refused(key: Path) -> None:
    mine, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    encoded = made.sign(mine, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    wanted, replaced = (
        one.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        for one in (other, mine)
    )
    forged = x509.load_der_x509_csr(encoded.replace(replaced, wanted))
    with pytest.raises(InvalidInput, match="its own key"):
        check_request(forged.public_bytes(serialization.Encoding.PEM))


def test_keys_of_other_kinds_are_refused() -> None:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for key in (
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
        ec.generate_private_key(ec.SECP384R1()),
    ):
        signed = made.sign(key, hashes.SHA256())
        with pytest.raises(InvalidInput, match="P-256"):
            check_request(signed.public_bytes(serialization.Encoding.PEM))


def test_the_root_of_a_certificate_is_found_among_several(authority: Path, tmp_path: Path) -> None:
    files = issue(authority, tmp_path / "of-old", PLANE, NOW)
    old = pem_of(issuer_der(files.cert, files.ca))
    create_authority(authority, "test root", NOW)
    assert pem_of(issuer_der(files.cert, authority / "ca.pem")) == old
    other = create_authority(tmp_path / "other", "test root", NOW)
    with pytest.raises(InvalidInput, match="issued by no certificate"):
        issuer_der(files.cert, other)


def test_without_an_authority_nothing_is_issued(key: Path, tmp_path: Path) -> None:
    request = check_request(request_of(key, "fra"))
    with pytest.raises(NotFound, match="no certificate authority"):
        issue_for(tmp_path / "none", PLANE, request, NOW, 60)
