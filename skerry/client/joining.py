"""Invites and identities of planes: calls and rows; `operator_methods` makes methods of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.operator.v1 import joining_pb2 as pb
from skerry.client.operator_calls import (
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
    page_fields,
)
from skerry.fleet.joining import digest_of_proof, plane_of_proof, token_text
from skerry.fleet.names import full_name


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneInviteRow:
    """An invite without its token."""

    plane: str
    creator: str
    created_at: datetime
    expires_at: datetime
    replaces: bool
    used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlaneInvite:
    """An invite that was just made; nobody else has its token, and nobody can say it again."""

    row: PlaneInviteRow
    token: str = field(repr=False)
    join_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneIdentityRow:
    """What proves a plane: the SHA-256 of its key, and the certificate that was issued last."""

    plane: str
    key_sha256: str
    serial_number: str
    joined_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


def list_plane_invites(project: str, token: str, which: Which) -> Call[Page[PlaneInviteRow]]:
    """Return the call for a page of invites."""
    request = pb.ListPlaneInvitesRequest(**page_fields(project, token), **which.fields())
    return page_call("ListPlaneInvites", request, "plane_invites", plane_invite_row)


def create_plane_invite(
    project: str, proof: str, expires_at: datetime, replace: bool, request_id: str
) -> Call[NewPlaneInvite]:
    """Return the call that invites a plane by this proof, of which only a digest is sent."""
    ends = Timestamp()
    ends.FromDatetime(expires_at)
    request = pb.CreatePlaneInviteRequest(
        parent=f"projects/{project}",
        plane_invite_id=plane_of_proof(proof) or "",
        plane_invite=pb.PlaneInvite(expire_time=ends, replace=replace),
        proof_sha256=digest_of_proof(proof),
        request_id=request_id,
    )

    def read(message: Any) -> NewPlaneInvite:
        return NewPlaneInvite(
            row=plane_invite_row(message.plane_invite),
            token=token_text(proof, message.authority_certificate),
            join_address=message.join_address,
        )

    return Call(
        method="CreatePlaneInvite", request=request, read=read, seconds_max=WRITE_SECONDS_MAX
    )


def delete_plane_invite(project: str, plane: str, request_id: str) -> Call[None]:
    """Return the call that withdraws a plane's invite."""
    request = pb.DeletePlaneInviteRequest(
        name=full_name(project, "planeInvites", plane), request_id=request_id
    )
    return _done("DeletePlaneInvite", request)


def list_plane_identities(project: str, token: str, which: Which) -> Call[Page[PlaneIdentityRow]]:
    """Return the call for a page of what proves planes."""
    request = pb.ListPlaneIdentitiesRequest(**page_fields(project, token), **which.fields())
    return page_call("ListPlaneIdentities", request, "plane_identities", plane_identity_row)


def revoke_plane(project: str, plane: str, request_id: str) -> Call[None]:
    """Return the call that puts a plane out."""
    request = pb.RevokePlaneRequest(name=full_name(project, "planes", plane), request_id=request_id)
    return _done("RevokePlane", request)


def plane_invite_row(message: Any) -> PlaneInviteRow:
    """Return the row of an invite's message."""
    return PlaneInviteRow(
        plane=message.name.rpartition("/")[2],
        creator=message.creator,
        created_at=message.create_time.ToDatetime(UTC),
        expires_at=message.expire_time.ToDatetime(UTC),
        replaces=message.replace,
        used_at=_moment(message, "use_time"),
    )


def plane_identity_row(message: Any) -> PlaneIdentityRow:
    """Return the row of an identity's message."""
    return PlaneIdentityRow(
        plane=message.name.rpartition("/")[2],
        key_sha256=message.key_sha256.hex(),
        serial_number=message.serial_number,
        joined_at=_moment(message, "join_time"),
        expires_at=_moment(message, "expire_time"),
        revoked_at=_moment(message, "revoke_time"),
    )


def _done(method: str, request: Any) -> Call[None]:
    return Call(method=method, request=request, read=lambda _: None, seconds_max=WRITE_SECONDS_MAX)


def _moment(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(UTC) if message.HasField(name) else None
