"""Certificates by request: the key stays where it was made, the authority sees its public half.

Who joins makes a key and a request here; the control plane checks the request and signs. One key
serves all certificates of a party, so that a renewal replaces one file and never a pair.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry.plumbing.certificates import (
    BACKDATE,
    DIRECTORY_MODE,
    KEY_MODE,
    Subject,
    Validity,
    key_pem,
    read_key,
    roots_pem,
    sign,
)
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.files import write_atomically
from skerry.plumbing.sealing import PLAIN, Keyring

# One on P-256 takes 500 bytes as PEM.
REQUEST_BYTES_MAX = 4_096
# Of its life: a certificate of a minute must not be past half of it when it is issued.
_BACKDATED_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRequest:
    """A request whose sender has shown to hold its key."""

    key: ec.EllipticCurvePublicKey
    key_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was just signed, with the roots to be trusted, as PEM."""

    certificate: bytes
    roots: bytes
    serial: str
    expires_at: datetime


def ensure_key(path: Path) -> None:
    """Make a key that its owner alone can read, unless there is one."""
    if path.exists():
        read_key(path)
        return
    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    write_atomically(path, key_pem(ec.generate_private_key(ec.SECP256R1())), mode=KEY_MODE)


def request_of(key_path: Path, name: str) -> bytes:
    """Return a request (PEM) for a party of that name, signed with its key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(read_key(key_path), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def check_request(pem: bytes) -> CheckedRequest:
    """Return the key of a request that was signed with it; InvalidInput for anything else.

    Nothing else in it is looked at: who it is for is proven otherwise.
    """
    try:
        if len(pem) > REQUEST_BYTES_MAX:
            raise ValueError
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        is_proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, TypeError):
        raise InvalidInput(
            f"certificate_request must be a PKCS #10 request as PEM, at most {REQUEST_BYTES_MAX}"
            " bytes",
            field="certificate_request",
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput("the key must be one on P-256", field="certificate_request")
    if not is_proven:
        raise InvalidInput(
            "the request is not signed with its own key", field="certificate_request"
        )
    return CheckedRequest(key=key, key_digest=_digest_of_key(key))


def issue_for(
    authority: Path,
    subject: Subject,
    request: CheckedRequest,
    now: datetime,
    seconds: float,
    keyring: Keyring = PLAIN,
) -> Issued:
    """Return a certificate of the authority for a request; NotFound when there is no authority.

    Infeasible or Corrupt where its key is sealed and the keyring does not open it.
    """
    life = timedelta(seconds=seconds)
    begins = now - min(BACKDATE, life * _BACKDATED_SHARE)
    validity = Validity(begins=begins, ends=now + life)
    certificate = sign(authority, subject, request.key, validity, keyring)
    return Issued(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        roots=roots_pem(authority),
        serial=f"{certificate.serial_number:x}",
        expires_at=certificate.not_valid_after_utc.astimezone(UTC),
    )


def key_digest_of(certificate_pem: bytes) -> bytes:
    """Return the digest of the key that a certificate is for; ValueError where it is none."""
    return _digest_of_key(x509.load_pem_x509_certificate(certificate_pem).public_key())


def fits(certificate_pem: bytes, key_path: Path) -> bool:
    """Say whether a certificate is for the key in the file."""
    return key_digest_of(certificate_pem) == _digest_of_key(read_key(key_path).public_key())


def pem_of(der: bytes) -> bytes:
    """Return a certificate as PEM; ValueError where it is none."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def issuer_der(certificate: Path, roots: Path) -> bytes:
    """Return the root that issued a party's certificate; InvalidInput where none of them did."""
    issued = x509.load_pem_x509_certificate(certificate.read_bytes())
    for root in x509.load_pem_x509_certificates(roots.read_bytes()):
        try:
            issued.verify_directly_issued_by(root)
        except Exception:
            continue  # of another kind, name or key: the next one may be it
        return root.public_bytes(serialization.Encoding.DER)
    raise InvalidInput(f"{certificate} was issued by no certificate of {roots}")


def _digest_of_key(key: object) -> bytes:
    assert hasattr(key, "public_bytes"), "every public key has an encoding"
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()
