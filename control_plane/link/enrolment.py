"""EnrolmentService: an invited plane becomes one of the fleet, and stays one by its key.

Served on the join port, where callers show no certificate, and beside the link, where they do. What
proves a plane is its token the first time, and from then on that it signs with its key.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.access.attempts import FAILURES_PER_SECOND, Attempts, peer_host
from control_plane.link.admission import Door, admit
from control_plane.link.identities import Identities
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.joining import NO_INVITE, Enrolled, join_plane, renew_plane
from skerry.api.plane.v1 import enrolment_pb2 as pb
from skerry.api.plane.v1 import enrolment_pb2_grpc
from skerry.fleet.joining import digest_of_proof, plane_of_proof
from skerry.fleet.names import InvalidName, check_name
from skerry.fleet.party_uris import PLANE, Naming, names_plane, plane_uri, why_not_plane
from skerry.plumbing import logs
from skerry.plumbing.certificate_requests import CheckedRequest, Issued, check_request, issue_for
from skerry.plumbing.certificates import Subject, read_authority_key
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import (
    Corrupt,
    Denied,
    Exhausted,
    Infeasible,
    InvalidInput,
    NotFound,
    NotLeading,
    SkerryError,
    StaleGeneration,
    Unauthenticated,
)
from skerry.plumbing.rpc import peer_uri_sans
from skerry.plumbing.sealing import PLAIN, Keyring

_log = logs.get_logger(__name__)

# Each costs a signature and a transaction, some 5 ms together: a tenth of a core at most. A fleet
# of thousands renews a few a minute.
CERTIFICATES_PER_SECOND_MAX = 20.0

NO_AUTHORITY = (
    "this control plane issues no certificates: its settings have no section `joining`. Make the"
    " plane's certificate where the fleet's authority is kept, with one URI,"
    " skerry://projects/PROJECT/planes/PLANE or spiffe://TRUST_DOMAIN/project/PROJECT/plane/PLANE,"
    " and the DNS name PLANE, or give the control plane an authority: joining.authority"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The authority of a fleet, as far as it makes planes' certificates, each for `seconds`.

    The keyring opens its key where that is sealed.
    """

    authority: Path
    naming: Naming
    seconds: float
    keyring: Keyring = PLAIN

    def check(self) -> None:
        """Log why nothing can be issued, before the first plane is refused for it."""
        try:
            read_authority_key(self.authority, self.keyring)
        except (OSError, InvalidInput, Infeasible, Corrupt, ValueError) as error:
            _log.error("authority.unreadable", authority=self.authority, error=str(error))

    def issue(self, plane: str, request: CheckedRequest, now: datetime) -> Issued:
        """Return a certificate for a plane; Infeasible when the authority cannot be read."""
        subject = Subject(name=plane, uris=(self.naming.uri(PLANE, plane),), dns_names=(plane,))
        try:
            return issue_for(self.authority, subject, request, now, self.seconds, self.keyring)
        except (OSError, NotFound, InvalidInput, Infeasible, Corrupt, ValueError) as error:
            _log.error("authority.unreadable", authority=self.authority, error=str(error))
            raise Infeasible(
                "the control plane cannot read its authority's certificate and key; its log says"
                " why"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentParts:
    """What enrolment is made of; `epoch` is 0 while another control plane leads.

    Without an `issuer` nothing is issued here: the operator brings certificates.
    """

    database: Database
    identities: Identities
    issuer: Issuer | None
    clock: Clock
    epoch: Callable[[], int]
    refusal: Callable[[], NotLeading]


class Enrolment(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Gives planes their certificates, as the generated base class wants it."""

    def __init__(self, parts: EnrolmentParts) -> None:
        """Count attempts from now on, and have it logged when nothing can be issued."""
        self._parts = parts
        if parts.issuer is not None:
            parts.issuer.check()
        self._attempts = Attempts()
        self._doors = {True: Door(), False: Door()}  # of linked planes, and of whoever comes

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        """Let a plane in by its token; Unauthenticated for one that opens nothing."""
        self._admit(context)
        plane = plane_of_proof(request.proof)
        if plane is None:
            raise self._failed(context, Unauthenticated(NO_INVITE))
        checked = self._checked(context, request.certificate_request)
        digest = digest_of_proof(request.proof)
        return pb.JoinResponse(
            enrolment=await self._issue(
                context,
                plane,
                checked,
                lambda session, write, enrolled: join_plane(session, write, digest, enrolled),
            )
        )

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewResponse:
        """Give a plane a further certificate for its key; Denied for any other key."""
        self._admit(context)
        issuer = self._issuer()
        try:
            plane = check_name(request.plane, "plane")
        except InvalidName as error:
            raise self._failed(context, InvalidInput(str(error), field="plane")) from None
        naming, names = issuer.naming, peer_uri_sans(context)
        whose = (naming.trust_domain, request.project, plane)
        if request.project != naming.project or (names and not names_plane(names, *whose)):
            told = Denied(
                f"this certificate is not one of {plane_uri(request.project, plane)}, so it renews"
                f" none of it: it {why_not_plane(names, *whose)}"
            )
            raise self._failed(context, told)
        checked = self._checked(context, request.certificate_request)
        return pb.RenewResponse(enrolment=await self._issue(context, plane, checked, renew_plane))

    def _issuer(self) -> Issuer:
        if not self._parts.epoch():
            raise self._parts.refusal()
        if self._parts.issuer is None:
            raise Infeasible(NO_AUTHORITY)
        return self._parts.issuer

    async def _issue(
        self, context: Any, plane: str, checked: CheckedRequest, store: Callable[..., Any]
    ) -> pb.Enrolment:
        """Sign, and answer it only once the store says that the plane may have it."""
        parts, issuer = self._parts, self._issuer()
        now = parts.clock.now()
        write = WriteContext(
            epoch=parts.epoch(), actor=f"plane:{plane}", now=now, project=issuer.naming.project
        )
        issued = await asyncio.to_thread(issuer.issue, plane, checked, now)
        enrolled = Enrolled(
            plane=plane,
            key_digest=checked.key_digest,
            serial=issued.serial,
            expires_at=issued.expires_at,
        )

        async def keep() -> None:
            parts.identities.put(await parts.database.run(store, write, enrolled))

        try:
            # What was written holds, though the plane goes away meanwhile.
            await asyncio.shield(keep())
        except StaleGeneration:
            raise parts.refusal() from None
        except (Unauthenticated, Denied) as error:
            raise self._failed(context, error) from None
        _log.info("plane.certified", plane=plane, serial=issued.serial, until=issued.expires_at)
        ends = Timestamp()
        ends.FromDatetime(issued.expires_at)
        return pb.Enrolment(
            project=issuer.naming.project,
            plane=plane,
            certificate=issued.certificate,
            roots=issued.roots,
            expire_time=ends,
        )

    def _admit(self, context: Any) -> None:
        """Let a call be looked at; Exhausted for who failed too often, or when all come at once.

        Planes of a certificate that holds wait for no strangers: they have a door of their own.
        """
        now = self._parts.clock.monotonic()
        is_plane = bool(peer_uri_sans(context))
        if not is_plane and self._attempts.is_over(peer_host(context.peer()), now):
            raise Exhausted(
                "too many attempts from this address failed",
                retry_after_seconds=1.0 / FAILURES_PER_SECOND,
            )
        per_second = CERTIFICATES_PER_SECOND_MAX
        self._doors[is_plane], wait = admit(self._doors[is_plane], now, 0, per_second=per_second)
        if wait is not None:
            raise Exhausted(
                "too many planes ask for certificates at once; come again when told",
                retry_after_seconds=wait,
            )

    def _checked(self, context: Any, request: bytes) -> CheckedRequest:
        try:
            return check_request(request)
        except InvalidInput as error:
            raise self._failed(context, error) from None

    def _failed(self, context: Any, error: SkerryError) -> SkerryError:
        host = peer_host(context.peer())
        if self._attempts.failed(host, self._parts.clock.monotonic()):
            _log.warning("enrolment.refused", peer=host, error=str(error))
        return error
