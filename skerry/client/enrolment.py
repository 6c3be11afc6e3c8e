"""A plane's end of joining: its key is made and kept here, certificates are asked for and written.

`skerry plane join` joins, the agent renews. Files are replaced whole: whoever follows them (the
link's next connection, Envoy) sees an old pair or a new one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from skerry.api.plane.v1 import enrolment_pb2 as pb
from skerry.api.plane.v1 import enrolment_pb2_grpc
from skerry.fleet.joining import JoinToken
from skerry.plumbing.certificate_requests import ensure_key, fits, pem_of, request_of
from skerry.plumbing.certificates import KEY_MODE, half_life
from skerry.plumbing.errors import InvalidInput, SkerryError, Unavailable
from skerry.plumbing.files import write_atomically
from skerry.plumbing.rpc import TlsFiles, from_rpc_error, pinned_channel

# A signature and a transaction; the rest is for a slow line.
CALL_SECONDS_MAX = 20.0
# Where `skerry plane join --data-dir DIR` puts what it makes.
FOLDER = "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where planes join: HOST:PORT of each control plane, and the name in their certificates."""

    addresses: Sequence[str]
    server_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTimes:
    """When a certificate is to be renewed, and when it ends."""

    due_at: datetime
    ends_at: datetime


def identity_files(data_dir: Path) -> TlsFiles:
    """Return where the files of a plane that joins are."""
    folder = data_dir / FOLDER
    return TlsFiles(ca=folder / "ca.pem", cert=folder / "plane.pem", key=folder / "plane.key")


def certificate_times(path: Path) -> CertificateTimes:
    """Return the times of the certificate in a file; OSError without one, ValueError for others."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    ends_at = certificate.not_valid_after_utc.astimezone(UTC)
    return CertificateTimes(due_at=half_life(certificate), ends_at=ends_at)


async def join(door: Door, token: JoinToken, files: TlsFiles) -> datetime:
    """Join by a token, write the plane's files, and return when the certificate ends.

    A new key for each token, and the same one for the same token: who was interrupted may repeat
    it. Unauthenticated for a token that opens nothing, Unavailable when nobody answers.
    """
    try:
        roots = pem_of(token.authority)
    except ValueError:
        raise InvalidInput(
            "the token's last part is no certificate: take the whole line that `skerry plane"
            " invite` showed"
        ) from None
    name = hashlib.sha256(token.proof.encode()).hexdigest()[:16]
    pending = files.key.with_name(f".joining-{name}.key")
    ensure_key(pending)
    request = pb.JoinRequest(
        proof=token.proof, certificate_request=request_of(pending, token.plane)
    )

    async def ask(stub: Any) -> Any:
        return await stub.Join(request, timeout=CALL_SECONDS_MAX)

    enrolment = (await _ask_each(door, roots, ask)).enrolment
    _check(enrolment, token.plane, pending)
    write_atomically(files.ca, enrolment.roots)
    write_atomically(files.key, pending.read_bytes(), mode=KEY_MODE)
    write_atomically(files.cert, enrolment.certificate)
    pending.unlink()
    return certificate_times(files.cert).ends_at


async def renew(channel: grpc.aio.Channel, project: str, plane: str, files: TlsFiles) -> None:
    """Get a further certificate for the plane's key over a channel, and write it.

    Raises what the control plane answers, and OSError when the files cannot be written.
    """
    request = _renewal(project, plane, files)
    stub: Any = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
    try:
        response = await stub.Renew(request, timeout=CALL_SECONDS_MAX)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    _write_renewed(response.enrolment, plane, files)


async def rejoin(door: Door, project: str, plane: str, files: TlsFiles) -> None:
    """Do that on the join port, by the key alone: after the last certificate has ended."""
    request = _renewal(project, plane, files)

    async def ask(stub: Any) -> Any:
        return await stub.Renew(request, timeout=CALL_SECONDS_MAX)

    response = await _ask_each(door, files.ca.read_bytes(), ask)
    _write_renewed(response.enrolment, plane, files)


async def _ask_each(door: Door, roots: bytes, ask: Any) -> Any:
    """Return what the first control plane answers that is there and leads."""
    last: SkerryError = Unavailable("no control plane was named to join at")
    for address in door.addresses:
        async with pinned_channel(address, roots, door.server_name) as channel:
            try:
                return await ask(enrolment_pb2_grpc.EnrolmentServiceStub(channel))
            except grpc.aio.AioRpcError as error:
                last = from_rpc_error(error)
                if not isinstance(last, Unavailable):
                    break
    raise last


def _renewal(project: str, plane: str, files: TlsFiles) -> pb.RenewRequest:
    certificate_request = request_of(files.key, plane)
    return pb.RenewRequest(project=project, plane=plane, certificate_request=certificate_request)


def _write_renewed(enrolment: Any, plane: str, files: TlsFiles) -> None:
    _check(enrolment, plane, files.key)
    # The roots first: our own certificate must never be one that we would not trust.
    if files.ca.read_bytes() != enrolment.roots:
        write_atomically(files.ca, enrolment.roots)
    write_atomically(files.cert, enrolment.certificate)


def _check(enrolment: Any, plane: str, key: Path) -> None:
    """Refuse an answer that would leave the plane with a pair that does not match."""
    try:
        is_ours = enrolment.plane == plane and fits(enrolment.certificate, key)
        is_ours = is_ours and bool(x509.load_pem_x509_certificates(enrolment.roots))
    except ValueError:
        is_ours = False
    if not is_ours:
        raise InvalidInput(
            f"the control plane answered with something that is no certificate for the key of"
            f" {plane!r}; nothing was changed"
        )
