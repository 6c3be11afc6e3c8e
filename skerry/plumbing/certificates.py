"""A small certificate authority on disk: one root, short-lived certificates for each party.

Whoever starts a fleet or renews a party's certificate calls `ensure_*` before it needs the
files. `now` is an argument; keys are EC P-256 and readable by their owner alone, and the
authority's are sealed where there is a keyring.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.plumbing.errors import InvalidInput, NotFound
from skerry.plumbing.files import lock_directory, write_atomically
from skerry.plumbing.rpc import TlsFiles
from skerry.plumbing.sealing import PLAIN, Keyring, sealed_by

AUTHORITY_DAYS = 3_650
CERTIFICATE_DAYS = 30  # renewed at half of it: a fortnight to notice that renewal fails
# Another machine's clock may be this far behind ours.
BACKDATE = timedelta(minutes=5)
KEY_MODE = 0o600
DIRECTORY_MODE = 0o700
CA_NAME, _CA_KEY_NAME, _NEXT_KEY_NAME = "ca.pem", "ca.key", "next.key"
_WHAT = "the authority's key"  # as which it is sealed; the next one becomes it
# A root is trusted for so long before it issues anything. Whoever renews takes the roots along, at
# half the life of its certificate, which is a year at most; nobody must meet a certificate of a
# root that it has not heard of.
PUBLISHED_DAYS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a certificate names; the name is also the files' stem."""

    name: str
    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when until when a certificate counts."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityKey:
    """A file with a key of an authority; `sealed_by` is a sealing key's id, None: it is plain."""

    path: Path
    sealed_by: str | None


def create_authority(
    directory: Path, common_name: str, now: datetime, keyring: Keyring = PLAIN
) -> Path:
    """Make a new root key and certificate in the directory; return the certificate's path.

    Roots of before that are still valid stay in the file after the new one, so that their
    certificates are trusted until each is renewed.
    """
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    trusted = [root for root in _read_roots(directory) if _ends(root) > now]
    key, root = _new_root(common_name, now)
    with lock_directory(directory):
        _write_sealed(directory / _CA_KEY_NAME, key_pem(key), keyring)
        _write_roots(directory, [root, *trusted])
    return directory / CA_NAME


def _new_root(
    common_name: str, now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    validity = Validity(begins=now - BACKDATE, ends=now + timedelta(days=AUTHORITY_DAYS))
    root = (
        _builder(name, name, key.public_key(), validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        # gRPC and Envoy find the right one of two roots with the same name by this identifier.
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return key, root


def ensure_authority(
    directory: Path, common_name: str, now: datetime, keyring: Keyring = PLAIN
) -> Path:
    """Return the path of the roots, the one that issues ahead; makes one when there is none.

    Past half its life its successor is made, and is trusted for `PUBLISHED_DAYS` before it issues:
    nobody has to be told of both at once.
    """
    roots = _read_roots(directory)
    if not roots or not (directory / _CA_KEY_NAME).exists() or _ends(roots[0]) <= now:
        return create_authority(directory, common_name, now, keyring)
    # Whoever holds none of its keys hears of it now, not when a certificate is due.
    _opened(directory / _CA_KEY_NAME, keyring)
    trusted = [root for root in roots if _ends(root) > now]
    if trusted != roots:
        _write_roots(directory, trusted)
    if not _is_due(trusted[0], now):
        return directory / CA_NAME
    with lock_directory(directory):
        _succeed(directory, common_name, now, trusted, keyring)
    return directory / CA_NAME


def _succeed(
    directory: Path,
    common_name: str,
    now: datetime,
    trusted: list[x509.Certificate],
    keyring: Keyring,
) -> None:
    """Make the successor of the root that issues, or have it issue once it was published."""
    successor = _successor(directory, trusted, keyring)
    if successor is None:
        key, root = _new_root(common_name, now)
        _write_sealed(directory / _NEXT_KEY_NAME, key_pem(key), keyring)
        _write_roots(directory, [*trusted, root])
    elif now >= successor.not_valid_before_utc + timedelta(days=PUBLISHED_DAYS):
        next_key = directory / _NEXT_KEY_NAME
        # The key first: what it signs before the roots change places is its own root's already.
        _write_sealed(directory / _CA_KEY_NAME, _opened(next_key, keyring), keyring)
        others = [root for root in trusted if root != successor]
        _write_roots(directory, [successor, *others])
        next_key.unlink()


def authority_keys(directory: Path) -> tuple[AuthorityKey, ...]:
    """Return the files with keys of the authority, and by what each is sealed."""
    paths = (directory / name for name in (_CA_KEY_NAME, _NEXT_KEY_NAME))
    found = [path for path in paths if path.exists()]
    if not found:
        raise NotFound(f"{directory} holds no key of a certificate authority")
    return tuple(AuthorityKey(path=path, sealed_by=sealed_by(path.read_bytes())) for path in found)


def seal_authority(directory: Path, opening: Keyring, sealing: Keyring) -> tuple[AuthorityKey, ...]:
    """Have every key of the authority sealed by the first key of `sealing`, plain without one.

    Return the files that were written, as they are now. Those that `opening` does not open are an
    error before any is written.
    """
    wanted = sealing.keys[0].id if sealing.keys else None
    # What is sealed anew must not undo a change of roots.
    with lock_directory(directory):
        found = authority_keys(directory)
        opened = [_opened(one.path, opening) for one in found]
        others = [one.sealed_by != wanted for one in found]
        for one, data, is_other in zip(found, opened, others, strict=True):
            if is_other:
                _write_sealed(one.path, data, sealing)
    return tuple(
        AuthorityKey(path=one.path, sealed_by=wanted)
        for one, is_other in zip(found, others, strict=True)
        if is_other
    )


def _opened(path: Path, keyring: Keyring) -> bytes:
    return keyring.open(path.read_bytes(), _WHAT, path)


def _write_sealed(path: Path, data: bytes, keyring: Keyring) -> None:
    write_atomically(path, keyring.seal(data, _WHAT), mode=KEY_MODE)


def _successor(
    directory: Path, roots: list[x509.Certificate], keyring: Keyring
) -> x509.Certificate | None:
    """Return the root that will issue next; None while there is none, or its key is unusable.

    A key that is sealed and cannot be opened is an error: it is not lost, and nothing replaces it.
    """
    try:
        key = read_key(directory / _NEXT_KEY_NAME, keyring).public_key()
    except (OSError, ValueError, InvalidInput):
        return None
    return next((root for root in roots[1:] if root.public_key() == key), None)


def _write_roots(directory: Path, roots: list[x509.Certificate]) -> None:
    write_atomically(directory / CA_NAME, b"".join(map(_cert_pem, roots)))


def issue(
    authority: Path,
    out: Path,
    subject: Subject,
    now: datetime,
    valid_days: float = CERTIFICATE_DAYS,
    keyring: Keyring = PLAIN,
) -> TlsFiles:
    """Write a new key and certificate for the subject, with a copy of the trusted roots.

    Good for both ends of a connection. Raises NotFound when there is no authority.
    """
    out.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    validity = Validity(begins=now - BACKDATE, ends=now + timedelta(days=valid_days))
    certificate = sign(authority, subject, key.public_key(), validity, keyring)
    files = _files(out, subject)
    # The key first: a reader between the two sees a pair that does not match and tries again,
    # rather than a fresh certificate whose key is still to come.
    write_atomically(files.key, key_pem(key), mode=KEY_MODE)
    write_atomically(files.cert, _cert_pem(certificate))
    _copy_roots(authority, files.ca)
    return files


def sign(
    authority: Path,
    subject: Subject,
    key: ec.EllipticCurvePublicKey,
    validity: Validity,
    keyring: Keyring = PLAIN,
) -> x509.Certificate:
    """Return a certificate of the authority for a key; NotFound when there is no authority.

    Infeasible or Corrupt where its key is sealed and the keyring does not open it.
    """
    roots = _read_roots(authority)
    if not roots:
        raise NotFound(f"{authority} holds no certificate authority; make one first")
    authority_key = read_authority_key(authority, keyring)
    common_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.name)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        authority_key.public_key()
    )
    return (
        _builder(common_name, roots[0].subject, key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(subject)), critical=False)
        .add_extension(issuer_identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def read_authority_key(authority: Path, keyring: Keyring) -> ec.EllipticCurvePrivateKey:
    """Return the key that issues; see `read_key` for what may be wrong with it."""
    return read_key(authority / _CA_KEY_NAME, keyring)


def roots_pem(authority: Path) -> bytes:
    """Return the certificates that are trusted, the issuing one first; NotFound without one."""
    try:
        return (authority / CA_NAME).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{authority} holds no certificate authority; make one first") from None


def ensure_certificate(
    authority: Path,
    out: Path,
    subject: Subject,
    now: datetime,
    valid_days: float = CERTIFICATE_DAYS,
    keyring: Keyring = PLAIN,
) -> TlsFiles:
    """Return the subject's files; issues anew when missing, past half its life, or outdated.

    Outdated: other names than the subject's, another root than the authority's newest, or a
    key that does not belong to the certificate (a crash between the two).
    """
    files = _files(out, subject)
    if not _is_current(files, subject, _read_roots(authority), now):
        return issue(authority, out, subject, now, valid_days, keyring)
    _copy_roots(authority, files.ca)
    return files


def renewal_time(certificate: Path) -> datetime:
    """Return when the certificate in a file is past half its life and is to be renewed."""
    return half_life(x509.load_pem_x509_certificate(certificate.read_bytes()))


def expiry_time(certificate: Path) -> datetime:
    """Return when the certificate ends; OSError or ValueError where it cannot be read."""
    return _ends(x509.load_pem_x509_certificate(certificate.read_bytes()))


def _files(out: Path, subject: Subject) -> TlsFiles:
    return TlsFiles(
        ca=out / CA_NAME, cert=out / f"{subject.name}.pem", key=out / f"{subject.name}.key"
    )


def _is_current(
    files: TlsFiles, subject: Subject, roots: list[x509.Certificate], now: datetime
) -> bool:
    if not roots:
        return False
    try:
        certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
        key = read_key(files.key)
        certificate.verify_directly_issued_by(roots[0])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:
        # Missing, torn, foreign: whatever is wrong with it, a new one is right.
        return False
    return (
        certificate.public_key() == key.public_key()
        and set(names.value) == set(_names(subject))
        and not _is_due(certificate, now)
    )


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    return now >= half_life(certificate)


def half_life(certificate: x509.Certificate) -> datetime:
    """Return when a certificate is past half its life."""
    begin = certificate.not_valid_before_utc
    return begin + (_ends(certificate) - begin) / 2


def _ends(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begins)
        .not_valid_after(validity.ends)
    )


def _names(subject: Subject) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    makers: tuple[tuple[Callable[[str], x509.GeneralName], tuple[str, ...]], ...] = (
        (x509.UniformResourceIdentifier, subject.uris),
        (x509.DNSName, subject.dns_names),
        (lambda text: x509.IPAddress(ipaddress.ip_address(text)), subject.addresses),
    )
    for make, texts in makers:
        for text in texts:
            try:
                names.append(make(text))
            except ValueError as error:
                raise InvalidInput(f"{text!r} cannot stand in a certificate: {error}") from None
    if not names:
        raise InvalidInput(f"certificate {subject.name!r} needs a URI, DNS name or address")
    return names


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _read_roots(directory: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates((directory / CA_NAME).read_bytes())
    except FileNotFoundError:
        return []


def read_key(path: Path, keyring: Keyring = PLAIN) -> ec.EllipticCurvePrivateKey:
    """Return the key in a file; InvalidInput for one of another kind, OSError without a file.

    A sealed one is opened by the keyring, Infeasible or Corrupt where that does not open it.
    """
    try:
        key = serialization.load_pem_private_key(_opened(path, keyring), password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"{path} is a key with a password, or of an unknown kind") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput(f"{path} is not an elliptic-curve key")
    return key


def _copy_roots(authority: Path, target: Path) -> None:
    roots = (authority / CA_NAME).read_bytes()
    if not target.exists() or target.read_bytes() != roots:
        write_atomically(target, roots)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as its file holds it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _cert_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
