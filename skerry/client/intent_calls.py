"""Calls about everything that operators say, as values; the clients' methods make them."""

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    cordon_pb2,
    intent_pb2,
    operator_service_pb2,
    pool_pb2,
    price_pb2,
)
from skerry.client import operator_rows as read
from skerry.client import rows
from skerry.client.catalogue_calls import ENTRY_KINDS, EntryKind, entry_message
from skerry.client.operator_calls import (
    WRITE_SECONDS_MAX,
    Call,
    Page,
    page_call,
    page_fields,
    spec_of,
)
from skerry.fleet.cordon import Part, Scope
from skerry.fleet.deployment import Deployment
from skerry.fleet.intent import CordonIntent, Intent, PoolIntent, PriceIntent, kind_of
from skerry.fleet.names import full_name
from skerry.wire.enums import from_number

_ENTRY_KINDS: Mapping[type, EntryKind[Any]] = {kind.value: kind for kind in ENTRY_KINDS.values()}


def apply_everything(
    project: str,
    deployments: Sequence[Deployment],
    intents: Sequence[Intent],
    request_id: str,
    *,
    validate_only: bool,
) -> Call[rows.AppliedEverything]:
    """Return the call that applies all or none, or says what that would do."""
    request = operator_service_pb2.ApplyRequest(
        parent=f"projects/{project}",
        specs=map(spec_of, deployments),
        intents=(_message(project, intent) for intent in intents),
        request_id=request_id,
        validate_only=validate_only,
    )

    def read_answer(message: operator_service_pb2.ApplyResponse) -> rows.AppliedEverything:
        applied = tuple(
            rows.AppliedIntentRow(
                intent=intent,
                outcome=from_number(read.OUTCOMES, item.outcome, "outcome"),
                diffs=read.diff_rows(item.diffs),
            )
            for intent, item in zip(intents, message.intents, strict=True)
        )
        return rows.AppliedEverything(deployments=read.applied_rows(message), intents=applied)

    return Call(method="Apply", request=request, read=read_answer, seconds_max=WRITE_SECONDS_MAX)


def list_pool_intents(project: str, token: str) -> Call[Page[PoolIntent]]:
    """Return the call for a page of pools' terms, without those of pools that were given none."""
    request = operator_service_pb2.ListPoolsRequest(**page_fields(project, token))

    def read_page(message: operator_service_pb2.ListPoolsResponse) -> Page[PoolIntent]:
        told = (pool for pool in message.pools if pool.etag)
        return Page(rows=tuple(map(_pool, told)), next_token=message.next_page_token)

    return Call(method="ListPools", request=request, read=read_page)


def list_cordon_intents(project: str, token: str) -> Call[Page[CordonIntent]]:
    """Return the call for a page of cordons as the intents that would set them."""
    request = catalogue_service_pb2.ListCordonsRequest(**page_fields(project, token))
    return page_call("ListCordons", request, "cordons", _cordon)


def _pool(message: pool_pb2.Pool) -> PoolIntent:
    return PoolIntent(pool=read.short_name(message.name), terms=read.pool_terms(message.terms))


def _cordon(message: cordon_pb2.Cordon) -> CordonIntent:
    _, _, collection, name = message.name.split("/", 3)
    return CordonIntent(
        part=Part(scope=Scope(collection.removesuffix("s")), name=name),
        reason=message.reason,
        draining=message.draining,
    )


def _message(project: str, intent: Intent) -> intent_pb2.Intent:
    match intent:
        case PoolIntent(pool=pool, terms=terms):
            name = full_name(project, "pools", pool)
            told: Any = pool_pb2.Pool(name=name, terms=read.terms_message(terms))
        case PriceIntent():
            told = price_pb2.Price(
                pool=intent.pool, price_per_accelerator_hour=intent.price_per_accelerator_hour
            )
            told.valid_from.FromDatetime(intent.valid_from)
        case CordonIntent(part=part, reason=reason, draining=draining):
            told = intent_pb2.CordonIntent(
                name=f"projects/{project}/{part.resource}", reason=reason, draining=draining
            )
        case _:
            told = entry_message(project, _ENTRY_KINDS[type(intent)], intent)
    return intent_pb2.Intent(**{kind_of(intent): told})
