"""API keys for inference: calls and rows; `operator_methods` makes methods of clients of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.operator.v1 import keys_pb2 as pb
from skerry.client.operator_calls import (
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
    page_fields,
)
from skerry.fleet.api_key import KeyTerms, digest_of_key, key_name_in
from skerry.fleet.names import full_name
from skerry.fleet.token_budget import BudgetPeriod
from skerry.plumbing.errors import Conflict
from skerry.wire.api_keys import period_from_proto, period_to_proto

_COLLECTION = "apiKeys"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRow:
    """A key without its secret; 0 is no bound.

    `spent_tokens` are those that planes told of the present day or month, 0 from a control plane of
    a release that does not count them.
    """

    name: str
    deployments: tuple[str, ...]
    requests_per_minute: int
    concurrent_requests: int
    creator: str
    created_at: datetime
    expires_at: datetime | None
    tokens_per_minute: int = 0
    budget_tokens: int = 0
    budget_period: BudgetPeriod = BudgetPeriod.MONTH
    spent_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key that was just made; nobody else has its text, and nobody can say it again."""

    row: ApiKeyRow
    text: str = field(repr=False)


def list_api_keys(project: str, token: str, which: Which) -> Call[Page[ApiKeyRow]]:
    """Return the call for a page of keys."""
    request = pb.ListApiKeysRequest(**page_fields(project, token), **which.fields())
    return page_call("ListApiKeys", request, "api_keys", api_key_row)


def create_api_key(
    project: str, text: str, terms: KeyTerms, expires_at: datetime | None, request_id: str
) -> Call[NewApiKey]:
    """Return the call that registers the key of this text, of which only a digest is sent."""
    told = pb.ApiKey(
        deployments=terms.deployments,
        requests_per_minute=terms.requests_per_minute,
        concurrent_requests=terms.concurrent_requests,
        tokens_per_minute=terms.tokens_per_minute,
        budget_tokens=terms.budget_tokens,
        budget_period=period_to_proto(terms),
    )
    if expires_at is not None:
        ends = Timestamp()
        ends.FromDatetime(expires_at)
        told.expire_time.CopyFrom(ends)
    request = pb.CreateApiKeyRequest(
        parent=f"projects/{project}",
        api_key_id=key_name_in(text) or "",
        api_key=told,
        key_sha256=digest_of_key(text),
        request_id=request_id,
    )

    def read(message: Any) -> NewApiKey:
        row = api_key_row(message)
        kept = row.tokens_per_minute, row.budget_tokens
        if kept != (terms.tokens_per_minute, terms.budget_tokens):
            # An older control plane drops what it does not know, and has made a key without bounds.
            raise Conflict(
                f"key {row.name} was made without its bounds on tokens: the control plane is of an"
                f" earlier release; run skerry key revoke {row.name}, upgrade it, and try again"
            )
        return NewApiKey(row=row, text=text)

    return Call(method="CreateApiKey", request=request, read=read, seconds_max=WRITE_SECONDS_MAX)


def revoke_api_key(project: str, name: str, request_id: str) -> Call[None]:
    """Return the call that takes a key back."""
    request = pb.RevokeApiKeyRequest(
        name=full_name(project, _COLLECTION, name), request_id=request_id
    )
    return Call(
        method="RevokeApiKey",
        request=request,
        read=lambda _: None,
        seconds_max=WRITE_SECONDS_MAX,
    )


def api_key_row(message: Any) -> ApiKeyRow:
    """Return the row of a key's message."""
    ends = message.expire_time.ToDatetime(UTC) if message.HasField("expire_time") else None
    return ApiKeyRow(
        name=message.name.rpartition("/")[2],
        deployments=tuple(message.deployments),
        requests_per_minute=message.requests_per_minute,
        concurrent_requests=message.concurrent_requests,
        creator=message.creator,
        created_at=message.create_time.ToDatetime(UTC),
        expires_at=ends,
        tokens_per_minute=message.tokens_per_minute,
        budget_tokens=message.budget_tokens,
        budget_period=period_from_proto(message.budget_period),
        spent_tokens=message.spent_tokens,
    )
