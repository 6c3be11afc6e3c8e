"""The operator API for Python: `OperatorClient` blocks, `AsyncOperatorClient` awaits.

Every call has a deadline, carries its actor, and goes to the next endpoint when one does not
answer; writes carry a request id, so that a repeat is one effect. Answers are rows, errors are
the kinds of `skerry.plumbing.errors`.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceStub
from skerry.client import operator_calls as calls
from skerry.client import questions, rows
from skerry.client.context import Context
from skerry.client.operator_calls import Call, Page
from skerry.fleet.deployment import Deployment, FailureDomain
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import DeadlineExceeded, NotFound, SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import CHANNEL_OPTIONS, from_rpc_error

Answer = TypeVar("Answer")
Row = TypeVar("Row")

_Stub: Any = OperatorServiceStub  # generated code declares no types

CHANGES_SHOWN = 200  # of `changes` without a bound: what fits some screens


class OperatorClient:
    """Calls the operator API and waits for the answer; use it in a `with` block."""

    def __init__(self, context: Context, ids: IdSource, actor: str) -> None:
        """Connect lazily to the context's endpoints as `actor`, e.g. `user:root`."""
        self._project = context.project
        self._ids = ids
        self._metadata = (("x-skerry-actor", actor),)
        self._endpoints = context.endpoints
        self._channels = [
            grpc.insecure_channel(endpoint, options=list(CHANNEL_OPTIONS))
            for endpoint in context.endpoints
        ]
        self._stubs: list[Any] = [_Stub(channel) for channel in self._channels]

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
        for channel in self._channels:
            channel.close()

    def list_planes(self) -> tuple[rows.PlaneRow, ...]:
        """Return every plane."""
        return self._pages(lambda token: calls.list_planes(self._project, token))

    def list_pools(self) -> tuple[rows.PoolRow, ...]:
        """Return every pool."""
        return self._pages(lambda token: calls.list_pools(self._project, token))

    def list_deployments(self) -> tuple[rows.DeploymentRow, ...]:
        """Return every deployment."""
        return self._pages(lambda token: calls.list_deployments(self._project, token))

    def list_placements(self) -> tuple[rows.PlacementRow, ...]:
        """Return every placement."""
        return self._pages(lambda token: calls.list_placements(self._project, token))

    def list_replicas(self) -> tuple[rows.ReplicaRow, ...]:
        """Return every replica that a plane reported."""
        return self._pages(lambda token: calls.list_replicas(self._project, token))

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

    def plan(self, deployment: Deployment) -> rows.PlanPreview:
        """Return what applying would do; changes nothing."""
        return self._run(calls.plan_deployment(self._project, deployment))

    def get_plan(self) -> rows.PlanPreview:
        """Return the decision in force; NotFound before the first."""
        return self._run(calls.get_plan(self._project))

    def explain(self, deployment: str, pool: str | None = None) -> questions.Explanation:
        """Return why a deployment is where it is, or why it is or is not on a pool."""
        return self._run(calls.explain(self._project, deployment, pool))

    def what_if(self, changes: Sequence[questions.Hypothesis]) -> questions.Consequences:
        """Return what the changes together would do to the fleet; changes nothing."""
        return self._run(calls.what_if(self._project, changes))

    def survive(self, domains: Sequence[FailureDomain] = ()) -> tuple[questions.LossRow, ...]:
        """Return what each loss would leave; without `domains` of every kind."""
        return self._run(calls.survive(self._project, domains))

    def delete_deployment(self, name: str) -> None:
        """Delete a deployment; NotFound when there is none of that name."""
        self._run(calls.delete_deployment(self._project, name, self._ids.new_id()))

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
                method = getattr(stub, call.method)
                message = method(call.request, timeout=call.seconds_max, metadata=self._metadata)
            except grpc.RpcError as error:
                failures.append(_or_raise(from_rpc_error(error)))
            else:
                return call.read(message)
        raise _nobody_answers(self._endpoints, failures)


class AsyncOperatorClient:
    """The same for asyncio, with the calls that programs beside a running loop need."""

    def __init__(self, context: Context, ids: IdSource, actor: str) -> None:
        """Connect lazily to the context's endpoints as `actor`; needs a running loop."""
        self._project = context.project
        self._ids = ids
        self._metadata = (("x-skerry-actor", actor),)
        self._endpoints = context.endpoints
        self._channels = [
            grpc.aio.insecure_channel(endpoint, options=list(CHANNEL_OPTIONS))
            for endpoint in context.endpoints
        ]
        self._stubs: list[Any] = [_Stub(channel) for channel in self._channels]

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
                method = getattr(stub, call.method)
                message = await method(
                    call.request, timeout=call.seconds_max, metadata=self._metadata
                )
            except grpc.RpcError as error:
                failures.append(_or_raise(from_rpc_error(error)))
            else:
                return call.read(message)
        raise _nobody_answers(self._endpoints, failures)


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
