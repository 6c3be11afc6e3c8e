"""skerry.api.operator.v1.KeyService: API keys for inference, made and revoked by admins.

Nothing is checked here when a user asks a model: gateways do that, with what they were told.
"""

from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty

from control_plane.api import validation
from control_plane.api.listing import listed
from control_plane.api.projects import check_one, check_project, is_in
from control_plane.api.times import moment_of, time_to_proto
from control_plane.api.views import FleetViews
from control_plane.api.writing import Writing
from control_plane.store.api_keys import (
    COLLECTION,
    KeyRecord,
    StoredKey,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from skerry.api.operator.v1 import keys_pb2 as pb
from skerry.api.operator.v1.keys_pb2_grpc import KeyServiceServicer
from skerry.fleet.api_key import DIGEST_BYTES, KeyTerms
from skerry.fleet.names import InvalidName, check_name, full_name
from skerry.fleet.token_budget import period_at
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput
from skerry.wire.api_keys import period_from_proto, period_to_proto


class Spent(Protocol):
    """What planes told of the tokens that keys used."""

    def of(self, key: str, period: str) -> int:
        """Return the tokens of a key in a day or month, all planes' together."""
        ...


class KeyService(KeyServiceServicer):
    """API keys of one control plane."""

    def __init__(
        self,
        database: Database,
        writing: Writing,
        spent: Spent,
        clock: Clock,
        views: FleetViews,
    ) -> None:
        """Keep keys in this store; `writing` wakes who tells the planes."""
        self._views = views
        self._database = database
        self._writing = writing
        self._spent = spent
        self._clock = clock

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Any) -> Any:
        """Return a page of the keys that were not revoked, by name."""
        project = check_project(await self._views.now(), validation.check_owner(request.parent))
        stored = await self._database.run_read(list_api_keys)
        held = [one for one in stored if one.revoked_at is None and is_in(project, one.project)]
        page = listed(request, held, lambda one: one.record.name, self._with_spent, pb.ApiKey)
        return pb.ListApiKeysResponse(api_keys=page.items, next_page_token=page.next_token)

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Any) -> pb.ApiKey:
        """Register a key by its digest."""
        project = check_one(await self._views.now(), validation.check_owner(request.parent))
        request_id = validation.check_opaque(request.request_id, "request_id")
        if len(request.key_sha256) != DIGEST_BYTES:
            raise InvalidInput(
                f"key_sha256 must be the {DIGEST_BYTES} bytes of the key's SHA-256",
                field="key_sha256",
            )
        write = self._writing.context(context, project)
        key = _key_of(request, write)
        with self._writing.done():
            made = await self._database.run(
                create_api_key, write, key, request.key_sha256, request_id
            )
        return key_to_proto(made, project)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> Empty:
        """Take a key back."""
        project, name = validation.check_owned_name(request.name, COLLECTION)
        project = check_one(await self._views.now(), project)
        request_id = validation.check_opaque(request.request_id, "request_id")
        write = self._writing.context(context, project)
        with self._writing.done():
            await self._database.run(revoke_api_key, write, name, request_id)
        return Empty()

    def _with_spent(self, stored: StoredKey) -> pb.ApiKey:
        key = stored.record
        message = key_to_proto(key, stored.project)
        if key.terms.counts_tokens:
            period = period_at(key.terms.budget_period, self._clock.now())
            message.spent_tokens = self._spent.of(key.name, period)
        return message


def key_to_proto(key: KeyRecord, project: str) -> pb.ApiKey:
    """Return the message of a project's key."""
    ends = key.expires_at
    return pb.ApiKey(
        name=full_name(project, COLLECTION, key.name),
        deployments=key.terms.deployments,
        requests_per_minute=key.terms.requests_per_minute,
        concurrent_requests=key.terms.concurrent_requests,
        tokens_per_minute=key.terms.tokens_per_minute,
        budget_tokens=key.terms.budget_tokens,
        budget_period=period_to_proto(key.terms),
        creator=key.creator,
        create_time=time_to_proto(key.created_at),
        expire_time=time_to_proto(ends) if ends else None,
    )


def _key_of(request: pb.CreateApiKeyRequest, write: WriteContext) -> KeyRecord:
    told = request.api_key
    try:
        name = check_name(request.api_key_id, "key")
    except InvalidName as error:
        raise InvalidInput(str(error), field="api_key_id") from error
    try:
        terms = KeyTerms(
            deployments=tuple(sorted(set(told.deployments))),
            requests_per_minute=told.requests_per_minute,
            concurrent_requests=told.concurrent_requests,
            tokens_per_minute=told.tokens_per_minute,
            budget_tokens=told.budget_tokens,
            budget_period=period_from_proto(told.budget_period),
        )
    except ValueError as error:
        raise InvalidInput(str(error), field="api_key") from error
    ends = None
    if told.HasField("expire_time"):
        ends = moment_of(told, "expire_time", "api_key.expire_time")
    return KeyRecord(
        name=name, terms=terms, creator=write.actor, created_at=write.now, expires_at=ends
    )
