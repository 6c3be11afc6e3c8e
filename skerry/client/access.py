"""Service tokens: calls and rows; `operator_methods` makes methods of the clients of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.operator.v1 import access_pb2 as pb
from skerry.client.operator_calls import (
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
    page_fields,
)
from skerry.fleet.access import Grant
from skerry.fleet.names import full_name
from skerry.fleet.service_token import digest_of_token, name_in

_COLLECTION = "serviceTokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTokenRow:
    """A service token without its secret; `last_used_at` is to the hour."""

    name: str
    role: str
    projects: tuple[str, ...]
    planes: tuple[str, ...]
    creator: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewServiceToken:
    """A token that was just made; nobody else has its text, and nobody can say it again."""

    row: ServiceTokenRow
    text: str = field(repr=False)


def list_service_tokens(project: str, token: str, which: Which) -> Call[Page[ServiceTokenRow]]:
    """Return the call for a page of service tokens."""
    request = pb.ListServiceTokensRequest(**page_fields(project, token), **which.fields())
    return page_call("ListServiceTokens", request, "service_tokens", service_token_row)


def create_service_token(
    project: str, text: str, grant: Grant, expires_at: datetime | None, request_id: str
) -> Call[NewServiceToken]:
    """Return the call that registers the token of this text, of which only a digest is sent."""
    told = pb.ServiceToken(role=grant.role.value, projects=grant.projects, planes=grant.planes)
    if expires_at is not None:
        ends = Timestamp()
        ends.FromDatetime(expires_at)
        told.expire_time.CopyFrom(ends)
    request = pb.CreateServiceTokenRequest(
        parent=f"projects/{project}",
        service_token_id=name_in(text) or "",
        service_token=told,
        token_sha256=digest_of_token(text),
        request_id=request_id,
    )

    def read(message: Any) -> NewServiceToken:
        return NewServiceToken(row=service_token_row(message), text=text)

    return Call(
        method="CreateServiceToken", request=request, read=read, seconds_max=WRITE_SECONDS_MAX
    )


def revoke_service_token(project: str, name: str, request_id: str) -> Call[None]:
    """Return the call that makes a token no credential."""
    request = pb.RevokeServiceTokenRequest(
        name=full_name(project, _COLLECTION, name), request_id=request_id
    )
    return Call(
        method="RevokeServiceToken",
        request=request,
        read=lambda _: None,
        seconds_max=WRITE_SECONDS_MAX,
    )


def service_token_row(message: Any) -> ServiceTokenRow:
    """Return the row of a token's message."""
    return ServiceTokenRow(
        name=message.name.rpartition("/")[2],
        role=message.role,
        projects=tuple(message.projects),
        planes=tuple(message.planes),
        creator=message.creator,
        created_at=message.create_time.ToDatetime(UTC),
        expires_at=_moment(message, "expire_time"),
        last_used_at=_moment(message, "last_use_time"),
    )


def _moment(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(UTC) if message.HasField(name) else None
