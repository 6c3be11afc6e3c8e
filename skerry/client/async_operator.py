"""The operator API for asyncio: what `skerry.client.operator` does, awaited.

Import `AsyncOperatorClient` from there, or from `skerry.client`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio

from skerry.client import operations, paging, rows
from skerry.client import operator_calls as calls
from skerry.client import operator_methods as ask
from skerry.client.connections import Methods, asyncio_channels, metadata_of
from skerry.client.context import Context
from skerry.client.operator_calls import Call
from skerry.client.operator_methods import CHANGES_SHOWN, Asker
from skerry.client.paging import Listing
from skerry.client.retrying import DEFAULT_RETRIES, RetryPolicy
from skerry.client.steering import Resumption, Steering, closed
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import from_rpc_error
from skerry.plumbing.tasks import sleep_unless_stopped

Answer = TypeVar("Answer")
Row = TypeVar("Row")
P = ParamSpec("P")


def _answered(
    make: Callable[Concatenate[Asker, P], Call[Answer]],
) -> Callable[Concatenate["AsyncOperatorClient", P], Coroutine[Any, Any, Answer]]:
    """Return the method that makes the call."""

    @ask.described(make)
    async def method(client: "AsyncOperatorClient", /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await client.run(make(client.asker, *args, **kwargs))

    return method


def _listed(
    make: Callable[Concatenate[Asker, P], Listing[Row]],
) -> Callable[Concatenate["AsyncOperatorClient", P], Coroutine[Any, Any, tuple[Row, ...]]]:
    """Return the method that reads the whole list; Exhausted where it does not end."""

    @ask.described(make, f"list_{make.__name__}")
    async def method(
        client: "AsyncOperatorClient", /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Row, ...]:
        listing = make(client.asker, *args, **kwargs)
        return tuple([row async for row in client.iterate(listing, paging.whole())])

    return method


def _iterated(
    make: Callable[Concatenate[Asker, P], Listing[Row]],
) -> Callable[Concatenate["AsyncOperatorClient", P], AsyncIterator[Row]]:
    """Return the method that reads the list as its rows are consumed."""

    @ask.described(make, f"iter_{make.__name__}")
    def method(
        client: "AsyncOperatorClient", /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Row]:
        return client.iterate(make(client.asker, *args, **kwargs), paging.row_by_row())

    return method


class AsyncOperatorClient:
    """Calls the operator API from a running loop; use it in an `async with` block."""

    def __init__(
        self,
        context: Context,
        ids: IdSource,
        actor: str,
        reason: str = "",
        *,
        retries: RetryPolicy = DEFAULT_RETRIES,
    ) -> None:
        """Connect lazily to the context's endpoints as `actor`; needs a running loop.

        `reason` is recorded with every change: why it is made.
        """
        self.asker = Asker(project=context.project, ids=ids)
        self._metadata = metadata_of(context, actor, reason)
        self._closed = asyncio.Event()
        self._clock = SystemClock()
        self._steering = Steering(context.endpoints, retries, self._clock, ids)
        self._channels = asyncio_channels(context)
        self._methods = [Methods(channel) for channel in self._channels]

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
        await self.close()

    async def close(self) -> None:
        """Close the connections: calls that wait fail, watches end."""
        self._closed.set()
        for channel in self._channels:
            await channel.close()

    # Every plane ... that there is, at once (`list_`) or page by page (`iter_`).
    list_planes, iter_planes = _listed(ask.planes), _iterated(ask.planes)
    list_pools, iter_pools = _listed(ask.pools), _iterated(ask.pools)
    list_deployments, iter_deployments = _listed(ask.deployments), _iterated(ask.deployments)
    list_placements, iter_placements = _listed(ask.placements), _iterated(ask.placements)
    list_control_planes = _listed(ask.control_planes)
    iter_control_planes = _iterated(ask.control_planes)
    list_nodes, iter_nodes = _listed(ask.nodes), _iterated(ask.nodes)
    list_replicas, iter_replicas = _listed(ask.replicas), _iterated(ask.replicas)
    list_plans, iter_plans = _listed(ask.plans), _iterated(ask.plans)
    list_revisions, iter_revisions = _listed(ask.revisions), _iterated(ask.revisions)
    list_entries, iter_entries = _listed(ask.entries), _iterated(ask.entries)
    list_prices, iter_prices = _listed(ask.prices), _iterated(ask.prices)
    list_rollouts, iter_rollouts = _listed(ask.rollouts), _iterated(ask.rollouts)
    list_service_levels = _listed(ask.service_levels)
    iter_service_levels = _iterated(ask.service_levels)
    list_cordons, iter_cordons = _listed(ask.cordons), _iterated(ask.cordons)
    list_pool_intents, iter_pool_intents = _listed(ask.pool_intents), _iterated(ask.pool_intents)
    list_cordon_intents = _listed(ask.cordon_intents)
    iter_cordon_intents = _iterated(ask.cordon_intents)
    changes_since, iter_changes_since = _listed(ask.changes_since), _iterated(ask.changes_since)
    iter_newest_changes = _iterated(ask.newest_changes)
    iter_change_records = _iterated(ask.change_records)
    iter_verified_changes = _iterated(ask.verified_changes)

    get_plane = _answered(ask.get_plane)
    get_pool = _answered(ask.get_pool)
    get_deployment = _answered(ask.get_deployment)
    get_node = _answered(ask.get_node)
    get_change = _answered(ask.get_change)
    get_rollout = _answered(ask.get_rollout)
    prove_residency = _answered(ask.prove_residency)
    get_entry = _answered(ask.get_entry)

    plan = _answered(ask.plan)
    apply = _answered(ask.apply)
    apply_all = _answered(ask.apply_all)
    apply_everything = _answered(ask.apply_everything)
    rollback = _answered(ask.rollback)
    delete_deployment = _answered(ask.delete_deployment)
    get_plan = _answered(ask.get_plan)
    settle_plan = _answered(ask.settle_plan)

    explain = _answered(ask.explain)
    explain_plane = _answered(ask.explain_plane)
    explain_scaling = _answered(ask.explain_scaling)
    pause_scaling = _answered(ask.pause_scaling)
    resume_scaling = _answered(ask.resume_scaling)
    get_freeze = _answered(ask.get_freeze)
    what_if = _answered(ask.what_if)
    survive = _answered(ask.survive)

    set_pool_terms = _answered(ask.set_pool_terms)
    cordon = _answered(ask.cordon)
    failover = _answered(ask.failover)
    steer_rollout = _answered(ask.steer_rollout)
    record_drill = _answered(ask.record_drill)
    move_replica = _answered(ask.move_replica)
    get_recovery = _answered(ask.get_recovery)
    approve_recovery = _answered(ask.approve_recovery)
    list_service_tokens = _listed(ask.service_tokens)
    iter_service_tokens = _iterated(ask.service_tokens)
    create_service_token = _answered(ask.create_service_token)
    revoke_service_token = _answered(ask.revoke_service_token)
    list_projects, iter_projects = _listed(ask.projects), _iterated(ask.projects)
    get_project = _answered(ask.get_project)
    create_project, delete_project = _answered(ask.create_project), _answered(ask.delete_project)
    list_api_keys = _listed(ask.api_keys)
    iter_api_keys = _iterated(ask.api_keys)
    create_api_key = _answered(ask.create_api_key)
    revoke_api_key = _answered(ask.revoke_api_key)
    list_plane_invites = _listed(ask.plane_invites)
    iter_plane_invites = _iterated(ask.plane_invites)
    create_plane_invite = _answered(ask.create_plane_invite)
    delete_plane_invite = _answered(ask.delete_plane_invite)
    list_plane_identities = _listed(ask.plane_identities)
    iter_plane_identities = _iterated(ask.plane_identities)
    revoke_plane = _answered(ask.revoke_plane)
    set_entry = _answered(ask.set_entry)
    delete_entry = _answered(ask.delete_entry)
    set_price = _answered(ask.set_price)
    delete_price = _answered(ask.delete_price)

    async def latest_changes(
        self, count: int = CHANGES_SHOWN, passes: str = ""
    ) -> tuple[rows.ChangeRow, ...]:
        """Return the `count` newest changes that pass a filter, oldest of them first."""
        found: list[rows.ChangeRow] = []
        if count > 0:
            async for change in self.iter_newest_changes(min(count, calls.PAGE_ROWS), passes):
                found.append(change)
                if len(found) == count:
                    break
        return tuple(reversed(found))

    async def watch(self, from_sequence: int) -> AsyncIterator[rows.ChangeRow]:
        """Yield every change above a sequence, without end and without gap.

        A stream that breaks is taken up where it was, at whichever control plane answers.
        OutOfRange where the next changes were forgotten, Unavailable when nobody answers for half
        a minute. Closing the client ends it.
        """
        resumption = self._steering.watch(from_sequence)

        def request() -> Any:
            return calls.watch_request(self.asker.project, resumption.sequence)

        async with aclosing(self._messages(resumption, "WatchChanges", request)) as messages:
            async for message in messages:
                change = calls.watched(message)
                if resumption.saw(change.sequence):
                    yield change

    async def drain(
        self, part: str, *, validate_only: bool = False
    ) -> AsyncGenerator[operations.DrainRow]:
        """Drain `planes/X`, `nodes/PLANE--NODE` or the like; yield how far it is, until it is over.

        It goes on without the caller, who may call again to follow it; a stream that breaks is
        taken up. With `validate_only` nothing is begun.
        """
        request_id, before = self.asker.ids.new_id(), None
        resumption = self._steering.watch(0)

        def request() -> Any:
            return operations.drain_request(
                self.asker.project, part, request_id, validate_only=validate_only
            )

        async with aclosing(self._messages(resumption, "Drain", request)) as messages:
            async for message in messages:
                row = operations.drain_row(message)
                resumption.saw(0)
                if row != before:
                    yield row
                before = row
                if row.is_over:
                    return

    async def _messages(
        self, resumption: Resumption, method: str, request: Callable[[], Any]
    ) -> AsyncGenerator[Any]:
        """Yield the messages of a stream, which is asked for again where it breaks."""
        while not self._closed.is_set():
            resumption.opened()
            stream = self._invoke(resumption.at, method, request())
            try:
                async for message in stream:
                    yield message
                cause: SkerryError = Unavailable("the stream was ended")
            except grpc.RpcError as error:
                cause = from_rpc_error(error)
            except asyncio.CancelledError:
                if not self._ends_with_client():
                    raise
                return
            finally:
                stream.cancel()
            await sleep_unless_stopped(resumption.broke(cause), self._clock, self._closed)

    async def run(self, call: Call[Answer]) -> Answer:
        """Make a call until it is answered, its time is over, or asking again is of no use."""
        course = self._steering.begin(call)
        while True:
            seconds = self._steering.seconds_left(course)
            try:
                message = await self._invoke(course.at, call.method, call.request, seconds)
            except grpc.RpcError as error:
                course, pause = self._steering.failed(course, call, from_rpc_error(error))
            except asyncio.CancelledError:
                if not self._ends_with_client():
                    raise
                raise closed() from None
            else:
                self._steering.answered(course)
                return call.read(message)
            if await sleep_unless_stopped(pause, self._clock, self._closed):
                raise closed()

    async def iterate(self, listing: Listing[Row], cursor: paging.PageCursor) -> AsyncIterator[Row]:
        """Yield the rows of a list, and get a page when its first row is asked for."""
        while not cursor.is_over:
            page = await self.run(listing(cursor.token))
            for row in page.rows:
                yield row
            cursor.took(page)

    def _invoke(self, at: int, method: str, request: Any, timeout: float | None = None) -> Any:
        if self._closed.is_set():
            raise closed()
        return self._methods[at][method](request, timeout=timeout, metadata=self._metadata)

    def _ends_with_client(self) -> bool:
        """Say whether a cancellation is that of the closed channel's calls, and of nobody else."""
        task = asyncio.current_task()
        return self._closed.is_set() and not (task is not None and task.cancelling())
