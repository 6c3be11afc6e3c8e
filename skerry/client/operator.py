"""The operator API for Python: `OperatorClient` blocks, `AsyncOperatorClient` awaits.

Every call has a deadline, carries its actor, and goes to the next endpoint when one does not
answer; writes carry a request id, so that a repeat is one effect. Answers are rows, errors are
the kinds of `skerry.plumbing.errors`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from skerry.api.operator.v1.catalogue_service_pb2_grpc import CatalogueServiceStub
from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceStub
from skerry.client import catalogue_calls, questions, rows
from skerry.client import operator_calls as calls
from skerry.client.catalogue_calls import EntryKind
from skerry.client.context import Context
from skerry.client.operator_calls import EVERY, Call, Page, Which
from skerry.client.rows import Value
from skerry.fleet.deployment import Deployment, FailureDomain
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import DeadlineExceeded, NotFound, SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import CHANNEL_OPTIONS, from_rpc_error
from skerry.plumbing.tasks import Backoff

Answer = TypeVar("Answer")
Row = TypeVar("Row")

# Generated code declares no types.
_OPERATOR: Any = OperatorServiceStub
_CATALOGUE: Any = CatalogueServiceStub


class _Stub:
    """The methods of both services over one channel."""

    def __init__(self, channel: Any) -> None:
        self._services = (_OPERATOR(channel), _CATALOGUE(channel))

    def method(self, name: str) -> Any:
        """Return the method of that name; the services share no name."""
        operator, catalogue = self._services
        return getattr(operator, name, None) or getattr(catalogue, name)


# Together about half a minute: a control plane's standby takes over in seconds.
WATCH_TRIES_MAX = 12
WATCH_PAUSE = Backoff(initial_seconds=0.2, max_seconds=5.0)
CHANGES_SHOWN = 200  # of `changes` without a bound: what fits some screens


class OperatorClient:
    """Calls the operator API and waits for the answer; use it in a `with` block."""

    def __init__(self, context: Context, ids: IdSource, actor: str, reason: str = "") -> None:
        """Connect lazily to the context's endpoints as `actor`, e.g. `user:root`.

        `reason` is recorded with every change: why it is made.
        """
        self._project = context.project
        self._ids = ids
        self._metadata = _metadata(actor, reason)
        self._closed = threading.Event()
        self._clock = SystemClock()
        self._endpoints = context.endpoints
        self._channels = [
            grpc.insecure_channel(endpoint, options=list(CHANNEL_OPTIONS))
            for endpoint in context.endpoints
        ]
        self._stubs = [_Stub(channel) for channel in self._channels]

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def list_planes(self, which: Which = EVERY) -> tuple[rows.PlaneRow, ...]:
        """Return every plane that passes the filter, in the order asked for."""
        return self._pages(lambda token: calls.list_planes(self._project, token, which))

    def list_pools(self, which: Which = EVERY) -> tuple[rows.PoolRow, ...]:
        """Return every pool that passes the filter, in the order asked for."""
        return self._pages(lambda token: calls.list_pools(self._project, token, which))

    def list_deployments(self, which: Which = EVERY) -> tuple[rows.DeploymentRow, ...]:
        """Return every deployment that passes the filter, in the order asked for."""
        return self._pages(lambda token: calls.list_deployments(self._project, token, which))

    def list_placements(self, which: Which = EVERY) -> tuple[rows.PlacementRow, ...]:
        """Return every placement that passes the filter, in the order asked for."""
        return self._pages(lambda token: calls.list_placements(self._project, token, which))

    def list_replicas(self, which: Which = EVERY) -> tuple[rows.ReplicaRow, ...]:
        """Return every reported replica that passes the filter, in the order asked for."""
        return self._pages(lambda token: calls.list_replicas(self._project, token, which))

    def latest_changes(self, count: int = CHANGES_SHOWN) -> tuple[rows.ChangeRow, ...]:
        """Return the `count` newest changes, oldest of them first."""
        found: list[rows.ChangeRow] = []
        token = ""
        for _ in range(calls.PAGES_MAX):
            page = self._run(calls.list_changes(self._project, token, 0, newest_first=True))
            found += page.rows
            token = page.next_token
            if not token or len(found) >= count:
                break
        return tuple(reversed(found[:count]))

    def get_change(self, sequence: int) -> rows.ChangeRow:
        """Return one change with what it did; NotFound when it is not kept (any more)."""
        return self._run(calls.get_change(self._project, sequence))

    def get_plane(self, name: str) -> rows.PlaneRow:
        """Return one plane; NotFound when there is none of that name."""
        return self._run(calls.get_plane(self._project, name))

    def get_pool(self, name: str) -> rows.PoolRow:
        """Return one pool by its fleet-wide id; NotFound when there is none."""
        return self._run(calls.get_pool(self._project, name))

    def get_deployment(self, name: str) -> rows.DeploymentRow:
        """Return one deployment; NotFound when there is none of that name."""
        return self._run(calls.get_deployment(self._project, name))

    def set_pool_terms(self, name: str, terms: PoolTerms, etag: str = "") -> rows.PoolRow:
        """Set a pool's terms; Conflict when `etag` is given and no longer the pool's."""
        return self._run(calls.update_pool(self._project, name, terms, etag, self._ids.new_id()))

    def apply(self, deployment: Deployment) -> tuple[rows.DeploymentRow, rows.ApplyOutcome]:
        """Create the deployment or give it a new revision; the same again changes nothing."""
        return self._run(calls.apply_deployment(self._project, deployment, self._ids.new_id()))

    def apply_all(
        self, deployments: Sequence[Deployment], *, validate_only: bool = False
    ) -> tuple[rows.AppliedRow, ...]:
        """Apply all deployments or none; with `validate_only` say what that would do."""
        ids = self._ids.new_id()
        return self._run(
            calls.apply_all(self._project, deployments, ids, validate_only=validate_only)
        )

    def plan(self, deployment: Deployment) -> rows.PlanPreview:
        """Return what applying would do; changes nothing."""
        return self._run(calls.plan_deployment(self._project, deployment))

    def get_plan(self, number: int | None = None) -> rows.PlanPreview:
        """Return the decision in force (NotFound before the first), or a plan by its number."""
        return self._run(calls.get_plan(self._project, number))

    def list_plans(self) -> tuple[rows.PlanRow, ...]:
        """Return the plans that are kept, the newest first."""
        return self._pages(lambda token: calls.list_plans(self._project, token))

    def settle_plan(self, number: int, *, approved: bool) -> rows.PlanRow:
        """Approve or reject a plan that waits; Infeasible when it does not."""
        ids = self._ids.new_id()
        return self._run(calls.settle_plan(self._project, number, ids, approved=approved))

    def explain(self, deployment: str, pool: str | None = None) -> questions.Explanation:
        """Return why a deployment is where it is, or why it is or is not on a pool."""
        return self._run(calls.explain(self._project, deployment, pool))

    def what_if(self, changes: Sequence[questions.Hypothesis]) -> questions.Consequences:
        """Return what the changes together would do to the fleet; changes nothing."""
        return self._run(calls.what_if(self._project, changes))

    def survive(self, domains: Sequence[FailureDomain] = ()) -> tuple[questions.LossRow, ...]:
        """Return what each loss would leave; without `domains` of every kind."""
        return self._run(calls.survive(self._project, domains))

    def list_revisions(self, name: str) -> tuple[rows.RevisionRow, ...]:
        """Return a deployment's revisions, the newest first."""
        return self._pages(lambda token: calls.list_revisions(self._project, name, token))

    def rollback(self, name: str, revision: int = 0) -> rows.DeploymentRow:
        """Make an earlier revision of a deployment the present one; 0: the one before."""
        ids = self._ids.new_id()
        return self._run(calls.rollback_deployment(self._project, name, revision, ids))

    def delete_deployment(self, name: str) -> None:
        """Delete a deployment; NotFound when there is none of that name."""
        self._run(calls.delete_deployment(self._project, name, self._ids.new_id()))

    def list_entries(
        self, kind: EntryKind[Value], passes: str = ""
    ) -> tuple[rows.EntryRow[Value], ...]:
        """Return the catalogue's entries of a kind that pass an AIP-160 filter."""
        return self._pages(
            lambda token: catalogue_calls.list_entries(self._project, kind, token, passes)
        )

    def get_entry(self, kind: EntryKind[Value], name: str) -> rows.EntryRow[Value]:
        """Return one entry of the catalogue; NotFound when there is none of that name."""
        return self._run(catalogue_calls.get_entry(self._project, kind, name))

    def set_entry(
        self, kind: EntryKind[Value], value: Value, etag: str = ""
    ) -> rows.EntryRow[Value]:
        """Create an entry or put the value in its place; Conflict when `etag` is another's."""
        ids = self._ids.new_id()
        return self._run(catalogue_calls.set_entry(self._project, kind, value, etag, ids))

    def delete_entry(self, kind: EntryKind[Any], name: str) -> None:
        """Delete an entry; Infeasible while something uses it."""
        ids = self._ids.new_id()
        self._run(catalogue_calls.delete_entry(self._project, kind, name, ids))

    def list_prices(self) -> tuple[rows.PriceRow, ...]:
        """Return every price by time, by pool, the earliest first."""
        return self._pages(lambda token: catalogue_calls.list_prices(self._project, token))

    def set_price(self, pool: str, valid_from: datetime, dollars: float) -> None:
        """Say what an accelerator-hour of a pool costs from a moment on."""
        ids = self._ids.new_id()
        self._run(catalogue_calls.set_price(self._project, pool, valid_from, dollars, ids))

    def delete_price(self, pool: str, valid_from: datetime) -> None:
        """Forget a pool's price from a moment on: the one before it goes on."""
        ids = self._ids.new_id()
        self._run(catalogue_calls.delete_price(self._project, pool, valid_from, ids))

    def list_cordons(self) -> tuple[rows.CordonRow, ...]:
        """Return every domain that takes nothing new."""
        return self._pages(lambda token: catalogue_calls.list_cordons(self._project, token))

    def cordon(self, domain: str, *, cordoned: bool) -> bool:
        """Cordon `planes/X`, `regions/CLOUD/REGION` or `clouds/X`, or end it; say if it was new."""
        ids = self._ids.new_id()
        return self._run(catalogue_calls.cordon(self._project, domain, ids, cordoned=cordoned))

    def watch(self, from_sequence: int) -> Iterator[rows.ChangeRow]:
        """Yield every change above a sequence, without end and without gap.

        A stream that breaks is taken up where it was, at whichever control plane answers.
        OutOfRange where the next changes were forgotten, Unavailable when nobody answers for half
        a minute.
        """
        sequence, failures = from_sequence, 0
        while not self._closed.is_set():
            began = self._clock.monotonic()
            stub = self._stubs[failures % len(self._stubs)]
            request = calls.watch_request(self._project, sequence)
            stream = stub.method("WatchChanges")(request, metadata=self._metadata)
            try:
                for message in stream:
                    change = calls.watched(message)
                    sequence, failures = change.sequence, 0
                    yield change
                cause: SkerryError = Unavailable("the stream was ended")
            except grpc.RpcError as error:
                cause = _or_raise(from_rpc_error(error))
            finally:
                stream.cancel()
            # One that lived for a while was answered; a quiet fleet's stream may be cut by a proxy.
            lived = self._clock.monotonic() - began > WATCH_PAUSE.max_seconds
            failures = 1 if lived else failures + 1
            if failures >= WATCH_TRIES_MAX:
                raise _nobody_answers(self._endpoints, [cause])
            self._closed.wait(WATCH_PAUSE.delay(failures, self._ids.random()))

    def _pages(self, call: Callable[[str], Call[Page[Row]]]) -> tuple[Row, ...]:
        found: list[Row] = []
        token = ""
        for _ in range(calls.PAGES_MAX):
            page = self._run(call(token))
            found += page.rows
            token = page.next_token
            if not token:
                break
        return tuple(found)

    def _run(self, call: Call[Answer]) -> Answer:
        failures: list[SkerryError] = []
        for stub in self._stubs:
            try:
                method = stub.method(call.method)
                message = method(call.request, timeout=call.seconds_max, metadata=self._metadata)
            except grpc.RpcError as error:
                failures.append(_or_raise(from_rpc_error(error)))
            else:
                return call.read(message)
        raise _nobody_answers(self._endpoints, failures)


class AsyncOperatorClient:
    """The same for asyncio, with the calls that programs beside a running loop need."""

    def __init__(self, context: Context, ids: IdSource, actor: str, reason: str = "") -> None:
        """Connect lazily to the context's endpoints as `actor`; needs a running loop."""
        self._project = context.project
        self._ids = ids
        self._metadata = _metadata(actor, reason)
        self._endpoints = context.endpoints
        self._channels = [
            grpc.aio.insecure_channel(endpoint, options=list(CHANNEL_OPTIONS))
            for endpoint in context.endpoints
        ]
        self._stubs = [_Stub(channel) for channel in self._channels]

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    async def list_planes(self) -> tuple[rows.PlaneRow, ...]:
        """Return every plane."""
        return await self._pages(lambda token: calls.list_planes(self._project, token))

    async def list_pools(self) -> tuple[rows.PoolRow, ...]:
        """Return every pool."""
        return await self._pages(lambda token: calls.list_pools(self._project, token))

    async def list_placements(self) -> tuple[rows.PlacementRow, ...]:
        """Return every placement."""
        return await self._pages(lambda token: calls.list_placements(self._project, token))

    async def list_replicas(self) -> tuple[rows.ReplicaRow, ...]:
        """Return every replica that a plane reported."""
        return await self._pages(lambda token: calls.list_replicas(self._project, token))

    async def changes_since(self, sequence: int) -> tuple[rows.ChangeRow, ...]:
        """Return the changes with a higher sequence, oldest first."""
        return await self._pages(
            lambda token: calls.list_changes(self._project, token, sequence, newest_first=False)
        )

    async def get_deployment(self, name: str) -> rows.DeploymentRow:
        """Return one deployment; NotFound when there is none of that name."""
        return await self._run(calls.get_deployment(self._project, name))

    async def set_pool_terms(self, name: str, terms: PoolTerms, etag: str = "") -> rows.PoolRow:
        """Set a pool's terms; Conflict when `etag` is given and no longer the pool's."""
        call = calls.update_pool(self._project, name, terms, etag, self._ids.new_id())
        return await self._run(call)

    async def apply(self, deployment: Deployment) -> tuple[rows.DeploymentRow, rows.ApplyOutcome]:
        """Create the deployment or give it a new revision; the same again changes nothing."""
        return await self._run(
            calls.apply_deployment(self._project, deployment, self._ids.new_id())
        )

    async def apply_all(
        self, deployments: Sequence[Deployment], *, validate_only: bool = False
    ) -> tuple[rows.AppliedRow, ...]:
        """Apply all deployments or none; with `validate_only` say what that would do."""
        ids = self._ids.new_id()
        return await self._run(
            calls.apply_all(self._project, deployments, ids, validate_only=validate_only)
        )

    async def plan(self, deployment: Deployment) -> rows.PlanPreview:
        """Return what applying would do; changes nothing."""
        return await self._run(calls.plan_deployment(self._project, deployment))

    async def get_plan(self) -> rows.PlanPreview:
        """Return the decision in force; NotFound before the first."""
        return await self._run(calls.get_plan(self._project))

    async def explain(self, deployment: str, pool: str | None = None) -> questions.Explanation:
        """Return why a deployment is where it is, or why it is or is not on a pool."""
        return await self._run(calls.explain(self._project, deployment, pool))

    async def what_if(self, changes: Sequence[questions.Hypothesis]) -> questions.Consequences:
        """Return what the changes together would do to the fleet; changes nothing."""
        return await self._run(calls.what_if(self._project, changes))

    async def survive(self, domains: Sequence[FailureDomain] = ()) -> tuple[questions.LossRow, ...]:
        """Return what each loss would leave; without `domains` of every kind."""
        return await self._run(calls.survive(self._project, domains))

    async def _pages(self, call: Callable[[str], Call[Page[Row]]]) -> tuple[Row, ...]:
        found: list[Row] = []
        token = ""
        for _ in range(calls.PAGES_MAX):
            page = await self._run(call(token))
            found += page.rows
            token = page.next_token
            if not token:
                break
        return tuple(found)

    async def _run(self, call: Call[Answer]) -> Answer:
        failures: list[SkerryError] = []
        for stub in self._stubs:
            try:
                method = stub.method(call.method)
                message = await method(
                    call.request, timeout=call.seconds_max, metadata=self._metadata
                )
            except grpc.RpcError as error:
                failures.append(_or_raise(from_rpc_error(error)))
            else:
                return call.read(message)
        raise _nobody_answers(self._endpoints, failures)


def _metadata(actor: str, reason: str) -> tuple[tuple[str, str | bytes], ...]:
    named = (("x-skerry-actor", actor),)
    return (*named, ("x-skerry-reason-bin", reason.encode())) if reason else named


def find_row(found: Sequence[Row], name: str, what: str) -> Row:
    """Return the row of that name among those listed; NotFound names the ones there are."""
    for row in found:
        if getattr(row, "name", None) == name:
            return row
    names = ", ".join(str(getattr(row, "name", "")) for row in found[:10]) or "none"
    raise NotFound(f"{what} {name!r} does not exist; there are {len(found)}: {names}")


def _or_raise(error: SkerryError) -> SkerryError:
    """Return the error when another endpoint may do better, else raise it."""
    # After a deadline the call may have taken effect or may yet: asking again only adds load.
    if isinstance(error, Unavailable) and not isinstance(error, DeadlineExceeded):
        return error
    raise error


def _nobody_answers(endpoints: Sequence[str], failures: Sequence[SkerryError]) -> SkerryError:
    where = ", ".join(endpoints)
    cause = failures[-1].message if failures else "no endpoint is configured"
    return Unavailable(
        f"no control plane answers at {where}: {cause.splitlines()[0][:200]};"
        " serving goes on without it; check that it runs, or give --endpoint"
    )
