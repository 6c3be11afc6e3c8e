"""API keys as gateways know them, fleet <-> protobuf."""

from datetime import UTC, datetime

from skerry.api.common.v1 import budget_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.token_budget import BudgetPeriod

_DAY, _MONTH = budget_pb2.BUDGET_PERIOD_DAY, budget_pb2.BUDGET_PERIOD_MONTH


def period_to_proto(terms: KeyTerms) -> budget_pb2.BudgetPeriod:
    """Return the period of the terms' budget, unspecified where there is none."""
    if not terms.budget_tokens:
        return budget_pb2.BUDGET_PERIOD_UNSPECIFIED
    return _DAY if terms.budget_period is BudgetPeriod.DAY else _MONTH


def period_from_proto(period: int) -> BudgetPeriod:
    """Return the period; a month for one that nobody named, or that this release does not know."""
    return BudgetPeriod.DAY if period == _DAY else BudgetPeriod.MONTH


def key_ring_to_proto(keys: tuple[ApiKey, ...]) -> plane_service_pb2.KeyRing:
    """Return the message of all keys there are."""
    return plane_service_pb2.KeyRing(keys=[_key_to_proto(key) for key in keys])


def key_ring_from_proto(message: plane_service_pb2.KeyRing) -> tuple[ApiKey, ...]:
    """Return the keys; ValueError for one that cannot be."""
    return tuple(_key_from_proto(key) for key in message.keys)


def _key_to_proto(key: ApiKey) -> plane_service_pb2.ApiKey:
    ends = key.expires_at
    return plane_service_pb2.ApiKey(
        name=key.name,
        sha256=key.digest,
        deployments=key.terms.deployments,
        requests_per_minute=key.terms.requests_per_minute,
        concurrent_requests=key.terms.concurrent_requests,
        expire_seconds=0 if ends is None else int(ends.timestamp()),
        tokens_per_minute=key.terms.tokens_per_minute,
        budget_tokens=key.terms.budget_tokens,
        budget_period=period_to_proto(key.terms),
        project="" if key.project == DEFAULT_PROJECT else key.project,
        every_of_project=key.every_of_project,
    )


def _key_from_proto(message: plane_service_pb2.ApiKey) -> ApiKey:
    ends = message.expire_seconds
    return ApiKey(
        name=message.name,
        digest=message.sha256,
        terms=KeyTerms(
            deployments=tuple(message.deployments),
            requests_per_minute=message.requests_per_minute,
            concurrent_requests=message.concurrent_requests,
            tokens_per_minute=message.tokens_per_minute,
            budget_tokens=message.budget_tokens,
            budget_period=(
                period_from_proto(message.budget_period)
                if message.budget_tokens
                else BudgetPeriod.MONTH
            ),
        ),
        expires_at=datetime.fromtimestamp(ends, UTC) if ends else None,
        project=message.project or DEFAULT_PROJECT,
        every_of_project=message.every_of_project,
    )
