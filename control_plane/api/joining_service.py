"""skerry.api.operator.v1.JoiningService: planes are invited and put out by who may give rights."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane.api import validation
from control_plane.api.listing import listed
from control_plane.api.times import moment_of, time_to_proto
from control_plane.api.writing import Writing
from control_plane.link.enrolment import NO_AUTHORITY
from control_plane.link.identities import Identities
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.joining import (
    IDENTITIES,
    INVITES,
    create_plane_invite,
    list_plane_identities,
    list_plane_invites,
    revoke_plane,
    withdraw_plane_invite,
)
from skerry.api.operator.v1 import joining_pb2 as pb
from skerry.api.operator.v1.joining_pb2_grpc import JoiningServiceServicer
from skerry.fleet.joining import DIGEST_BYTES, PlaneIdentity, PlaneInvite
from skerry.fleet.names import DEFAULT_PROJECT, InvalidName, check_part, full_name
from skerry.plumbing import logs
from skerry.plumbing.certificate_requests import issuer_der
from skerry.plumbing.errors import Infeasible, InvalidInput
from skerry.plumbing.rpc import TlsFiles

_log = logs.get_logger(__name__)

# Long enough for a machine that is being shipped; a token that lies about longer is found.
INVITE_LIFE_MAX = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinDoor:
    """Where planes join, and the files by which they know that it is the control plane."""

    address: str
    tls: TlsFiles

    async def authority(self) -> bytes:
        """Return the root (DER) that issued the control plane's own certificate."""
        try:
            return await asyncio.to_thread(issuer_der, self.tls.cert, self.tls.ca)
        except (OSError, ValueError, InvalidInput) as error:
            _log.error("authority.unreadable", certificate=self.tls.cert, error=str(error))
            raise Infeasible(
                "the control plane cannot tell which authority issued its own certificate; its log"
                " says why"
            ) from None


class JoiningService(JoiningServiceServicer):
    """Invites and identities of one control plane."""

    def __init__(
        self, database: Database, writing: Writing, identities: Identities, door: JoinDoor | None
    ) -> None:
        """Keep invites in this store; without a door nobody is invited."""
        self._database = database
        self._writing = writing
        self._identities = identities
        self._door = door

    async def ListPlaneInvites(self, request: pb.ListPlaneInvitesRequest, context: Any) -> Any:
        """Return a page of invites, used and ended ones too, by plane."""
        validation.check_parent(request.parent)
        found = await self._database.run_read(list_plane_invites)
        page = listed(request, found, lambda one: one.plane, invite_to_proto, pb.PlaneInvite)
        return pb.ListPlaneInvitesResponse(
            plane_invites=page.items, next_page_token=page.next_token
        )

    async def CreatePlaneInvite(
        self, request: pb.CreatePlaneInviteRequest, context: Any
    ) -> pb.CreatePlaneInviteResponse:
        """Register an invite by the digest of what proves it."""
        validation.check_parent(request.parent)
        request_id = validation.check_opaque(request.request_id, "request_id")
        write = self._writing.context(context)
        invite = _invite_of(request, write)
        if self._door is None:
            raise Infeasible(NO_AUTHORITY)
        authority = await self._door.authority()
        with self._writing.done():
            made = await self._database.run(
                create_plane_invite, write, invite, request.proof_sha256, request_id
            )
        return pb.CreatePlaneInviteResponse(
            plane_invite=invite_to_proto(made),
            authority_certificate=authority,
            join_address=self._door.address,
        )

    async def DeletePlaneInvite(self, request: pb.DeletePlaneInviteRequest, context: Any) -> Empty:
        """Withdraw an invite."""
        plane = validation.check_full_name(request.name, INVITES)
        request_id = validation.check_opaque(request.request_id, "request_id")
        write = self._writing.context(context)
        with self._writing.done():
            await self._database.run(withdraw_plane_invite, write, plane, request_id)
        return Empty()

    async def ListPlaneIdentities(
        self, request: pb.ListPlaneIdentitiesRequest, context: Any
    ) -> Any:
        """Return a page of what proves planes, revoked ones too, by plane."""
        validation.check_parent(request.parent)
        found = await self._database.run_read(list_plane_identities)
        page = listed(request, found, lambda one: one.plane, identity_to_proto, pb.PlaneIdentity)
        return pb.ListPlaneIdentitiesResponse(
            plane_identities=page.items, next_page_token=page.next_token
        )

    async def RevokePlane(self, request: pb.RevokePlaneRequest, context: Any) -> Empty:
        """Put a plane out; its link ends before this is answered."""
        plane = validation.check_full_name(request.name, "planes")
        request_id = validation.check_opaque(request.request_id, "request_id")
        write = self._writing.context(context)
        # What was written holds, though the caller goes away meanwhile: so must what it does.
        await asyncio.shield(self._revoke(write, plane, request_id))
        return Empty()

    async def _revoke(self, write: WriteContext, plane: str, request_id: str) -> None:
        with self._writing.done():
            identity = await self._database.run(revoke_plane, write, plane, request_id)
            self._identities.put(identity)


def invite_to_proto(invite: PlaneInvite) -> pb.PlaneInvite:
    """Return the message of an invite."""
    return pb.PlaneInvite(
        name=full_name(DEFAULT_PROJECT, INVITES, invite.plane),
        creator=invite.creator,
        replace=invite.replaces,
        create_time=time_to_proto(invite.created_at),
        expire_time=time_to_proto(invite.expires_at),
        use_time=time_to_proto(invite.used_at) if invite.used_at else None,
    )


def identity_to_proto(identity: PlaneIdentity) -> pb.PlaneIdentity:
    """Return the message of what proves a plane."""
    joined, ends, revoked = identity.joined_at, identity.expires_at, identity.revoked_at
    return pb.PlaneIdentity(
        name=full_name(DEFAULT_PROJECT, IDENTITIES, identity.plane),
        key_sha256=identity.key_digest,
        serial_number=identity.serial,
        join_time=time_to_proto(joined) if joined else None,
        expire_time=time_to_proto(ends) if ends else None,
        revoke_time=time_to_proto(revoked) if revoked else None,
    )


def _invite_of(request: pb.CreatePlaneInviteRequest, write: WriteContext) -> PlaneInvite:
    if len(request.proof_sha256) != DIGEST_BYTES:
        raise InvalidInput(
            f"proof_sha256 must be the {DIGEST_BYTES} bytes of the proof's SHA-256",
            field="proof_sha256",
        )
    try:
        plane = check_part(request.plane_invite_id, "plane")
    except InvalidName as error:
        raise InvalidInput(str(error), field="plane_invite_id") from error
    field = "plane_invite.expire_time"
    ends = moment_of(request.plane_invite, "expire_time", field)
    if ends > write.now + INVITE_LIFE_MAX:
        days = INVITE_LIFE_MAX.days
        raise InvalidInput(f"an invite lasts at most {days} days", field=field)
    return PlaneInvite(
        plane=plane,
        creator=write.actor,
        created_at=write.now,
        expires_at=ends,
        replaces=request.plane_invite.replace,
    )
