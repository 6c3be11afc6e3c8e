"""The operator API's clients, blocking and asyncio, while control planes end, return and change."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.store.changes import append_change
from control_plane.store.fencing import WriteContext
from skerry.client.operator import AsyncOperatorClient, OperatorClient
from skerry.client.operator_calls import PAGE_ROWS
from skerry.client.retrying import BUDGET_TENTHS_MAX, LEADER, RETRY_TENTHS, RetryPolicy
from skerry.client.rows import ApplyOutcome
from skerry.plumbing.errors import (
    DeadlineExceeded,
    Exhausted,
    NotFound,
    NotLeading,
    Unavailable,
)
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import CHANNEL_OPTIONS
from skerry.plumbing.tasks import Backoff
from tests.builders import a_deployment
from tests.fakes.clock import START
from tests.integration.client_world import (
    CLOCK,
    HOST,
    Client,
    World,
    a_world,
    ask,
    connected,
    until,
)

pytestmark = pytest.mark.integration

QUICK = RetryPolicy(window=Backoff(initial_seconds=0.01, max_seconds=0.05))
BUDGET_RETRIES = BUDGET_TENTHS_MAX // RETRY_TENTHS
SECONDS_MAX = 60
CONNECT_SECONDS = int(dict(CHANNEL_OPTIONS)["grpc.min_reconnect_backoff_ms"]) / 1000
BOTH = pytest.mark.parametrize("kind", [OperatorClient, AsyncOperatorClient])


@contextlib.asynccontextmanager
async def bounded() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks that must not take long."""
    async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
        yield group


async def append_changes(world: World, count: int) -> int:
    """Commit so many changes and return the last one's sequence."""
    write = WriteContext(epoch=world.epoch, actor="user:test", now=START)

    def batch(session: Any) -> int:
        return [
            append_change(session, write, "test.made", f"things/{n}", "") for n in range(count)
        ][-1]

    return int(await world.database.run(batch))


async def kinds_of_changes(client: Client) -> list[str]:
    return [change.kind for change in await ask(client, "changes_since", 0)]


@BOTH
async def test_a_read_lives_through_a_restart(kind: type[Client], tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        one = await world.started()
        async with connected(kind, one.address) as client, bounded() as group:
            assert await ask(client, "list_planes") == ()
            await one.stop()
            reading = group.create_task(ask(client, "list_planes"))
            await CLOCK.sleep(0.3)  # a few attempts meet a closed port
            assert not reading.done()
            await one.start()
            assert await reading == ()


@BOTH
async def test_a_write_whose_answer_was_lost_has_one_effect(
    kind: type[Client], tmp_path: Path
) -> None:
    async with a_world(tmp_path) as world:
        committed, never = asyncio.Event(), asyncio.Event()

        async def lose_answer(real: Any, request: Any, context: Any) -> Any:
            await real(request, context)
            committed.set()
            await never.wait()

        one = await world.started(ApplyDeployment=lose_answer)
        async with connected(kind, one.address) as client, bounded() as group:
            writing = group.create_task(ask(client, "apply", a_deployment("demo")))
            await committed.wait()
            await one.stop()
            one.instead = {}
            await one.start()
            row, outcome = await writing
            assert (row.name, outcome) == ("demo", ApplyOutcome.CREATED)
            applied = [k for k in await kinds_of_changes(client) if k.startswith("deployment.")]
            assert len(applied) == 1
            assert one.calls["ApplyDeployment"] == 2


@BOTH
async def test_a_write_finds_who_leads_and_the_next_call_begins_there(
    kind: type[Client], tmp_path: Path
) -> None:
    async with a_world(tmp_path) as world:
        asked: list[float] = []

        async def note(real: Any, request: Any, context: Any) -> Any:
            asked.append(CLOCK.monotonic())
            return await real(request, context)

        standby = await world.started(leads=False, ApplyDeployment=note)
        leader = await world.started(ApplyDeployment=note)
        async with connected(kind, standby.address, leader.address) as client:
            await ask(client, "apply", a_deployment("a"))
            assert asked[1] - asked[0] < 1.5, "RetryInfo's 2 s are for who has no other"
            await ask(client, "apply", a_deployment("b"))
            await ask(client, "list_deployments")
        assert standby.calls == {"ApplyDeployment": 1}
        assert leader.calls == {"ApplyDeployment": 2, "ListDeployments": 1}


@BOTH
async def test_the_control_plane_that_is_named_is_asked_next(
    kind: type[Client], tmp_path: Path
) -> None:
    async with a_world(tmp_path) as world:
        other, leader = await world.started(leads=False), await world.started()

        async def send_on(real: Any, request: Any, context: Any) -> Any:
            raise NotLeading("not I", hints={LEADER: leader.address}, retry_after_seconds=2.0)

        first = await world.started(ApplyDeployment=send_on)
        addresses = (first.address, other.address, leader.address)
        async with connected(kind, *addresses) as client:
            await ask(client, "apply", a_deployment("a"))
        assert (first.calls.total(), other.calls.total(), leader.calls.total()) == (1, 0, 1)


@BOTH
async def test_a_write_waits_for_a_new_leader(kind: type[Client], tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        one, two = await world.started(leads=False), await world.started(leads=False)
        async with connected(kind, one.address, two.address) as client, bounded() as group:
            writing = group.create_task(ask(client, "apply", a_deployment("a")))
            await until(lambda: one.calls.total() == two.calls.total() == 1)
            two.epoch = world.epoch
            await two.restart()
            _, outcome = await writing
        assert outcome is ApplyOutcome.CREATED
        assert two.calls.total() == 2


@BOTH
async def test_a_leader_that_hangs_costs_one_connection_try_until_a_standby_leads(
    kind: type[Client], tmp_path: Path
) -> None:
    asked: list[float] = []
    # As a stopped process: the kernel takes connections, and nobody reads them.
    with socket.create_server((HOST, 0)) as hung:
        address = f"{HOST}:{hung.getsockname()[1]}"

        async def lead_soon(real: Any, request: Any, context: Any) -> Any:
            asked.append(CLOCK.monotonic())
            if len(asked) <= 2:
                raise NotLeading("not I", hints={LEADER: address})
            return await real(request, context)

        async with a_world(tmp_path) as world:
            standby = await world.started(ApplyDeployment=lead_soon)
            async with connected(kind, address, standby.address) as client, bounded():
                _, outcome = await ask(client, "apply", a_deployment("a"))
    assert outcome is ApplyOutcome.CREATED
    # Two pauses lie between, 0.75 s at most, and no try at the address that hangs.
    assert asked[-1] - asked[0] < CONNECT_SECONDS


@BOTH
async def test_one_that_is_gone_is_passed_over(kind: type[Client], tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        here = await world.started()
        gone = f"{HOST}:{free_port(HOST)}"
        async with connected(kind, gone, here.address, retries=QUICK) as client:
            assert await ask(client, "list_planes") == ()
            assert (await ask(client, "apply", a_deployment("a")))[1] is ApplyOutcome.CREATED


@BOTH
async def test_the_budget_bounds_what_a_sick_control_plane_is_asked(
    kind: type[Client], tmp_path: Path
) -> None:
    async def refuse(real: Any, request: Any, context: Any) -> Any:
        raise Unavailable("sick")

    calls = 30
    async with a_world(tmp_path) as world:
        one = await world.started(ListPlanes=refuse)
        async with connected(kind, one.address, retries=QUICK) as client:
            for _ in range(calls):
                with pytest.raises(Unavailable, match="no control plane answers at"):
                    await ask(client, "list_planes")
            assert one.calls["ListPlanes"] == calls + BUDGET_RETRIES
            # Answers give it back: ten of them are one retry.
            for _ in range(10):
                await ask(client, "list_pools")
            with pytest.raises(Unavailable, match="2 attempts; too many calls before it"):
                await ask(client, "list_planes")


@BOTH
async def test_a_limit_that_says_when_is_waited_for(kind: type[Client], tmp_path: Path) -> None:
    refused: list[float] = []

    async def refuse_once(real: Any, request: Any, context: Any) -> Any:
        refused.append(CLOCK.monotonic())
        if len(refused) == 1:
            raise Exhausted("too many at once", retry_after_seconds=0.4)
        raise NotFound("but it was asked")

    async with a_world(tmp_path) as world:
        one = await world.started(GetPlane=refuse_once)
        async with connected(kind, one.address, retries=QUICK) as client:
            with pytest.raises(NotFound, match="but it was asked"):
                await ask(client, "get_plane", "a")
    assert refused[1] - refused[0] >= 0.4


@BOTH
async def test_what_is_refused_is_asked_once(kind: type[Client], tmp_path: Path) -> None:
    async def run_late(real: Any, request: Any, context: Any) -> Any:
        raise TimeoutError

    async with a_world(tmp_path) as world:
        one = await world.started(GetPool=run_late)
        async with connected(kind, one.address) as client:
            with pytest.raises(NotFound):
                await ask(client, "get_plane", "nowhere")
            with pytest.raises(DeadlineExceeded, match="GetPool was not answered by"):
                await ask(client, "get_pool", "a--b")
        assert one.calls == {"GetPlane": 1, "GetPool": 1}


@BOTH
async def test_pages_are_read_as_their_rows_are_consumed(
    kind: type[Client], tmp_path: Path
) -> None:
    async with a_world(tmp_path) as world:
        one = await world.started()
        last = await append_changes(world, 2 * PAGE_ROWS)
        async with connected(kind, one.address) as client:
            rows: Any = client.iter_changes_since(0)
            seen = []
            if isinstance(client, AsyncOperatorClient):
                async for row in rows:
                    seen.append(row.sequence)
                    if len(seen) == PAGE_ROWS:
                        break
            else:
                seen = await asyncio.to_thread(
                    lambda: [next(rows).sequence for _ in range(PAGE_ROWS)]
                )
            assert one.calls["ListChanges"] == 1
            everything = await ask(client, "changes_since", 0)
            assert [row.sequence for row in everything] == list(range(1, last + 1))
            assert seen == list(range(1, PAGE_ROWS + 1))
            newest = await ask(client, "latest_changes", 3)
            assert [row.sequence for row in newest] == [last - 2, last - 1, last]
            assert one.calls["ListChanges"] == 1 + 3 + 1


@BOTH
async def test_closing_the_client_ends_its_watch_and_its_calls(
    kind: type[Client], tmp_path: Path
) -> None:
    never = asyncio.Event()

    async def hang(real: Any, request: Any, context: Any) -> Any:
        await never.wait()

    async def fails_as_closed(client: Client, method: str, *arguments: str) -> None:
        with pytest.raises(Unavailable, match="this client is closed"):
            await ask(client, method, *arguments)

    async with a_world(tmp_path) as world:
        one = await world.started(GetPlane=hang)
        async with connected(kind, one.address) as client, bounded() as group:
            watching = group.create_task(collect(client, 0, 10))
            group.create_task(fails_as_closed(client, "get_plane", "a"))
            await until(lambda: one.calls["GetPlane"] == one.calls["WatchChanges"] == 1)
            await ask(client, "close")
            assert await watching in ([], [1])
            await fails_as_closed(client, "list_planes")


@BOTH
async def test_a_watch_has_every_change_once_through_restarts(
    kind: type[Client], tmp_path: Path
) -> None:
    restarts, batch = 5, 200
    async with a_world(tmp_path) as world:
        # One of them is always there: the watch goes over to it, and back.
        one, two = await world.started(), await world.started()
        last = 1 + restarts * batch
        async with connected(kind, one.address, two.address) as client, bounded() as group:
            watching = group.create_task(collect(client, 0, last))
            for number in range(restarts):
                await append_changes(world, batch)
                await (one, two)[number % 2].restart()
            assert await watching == list(range(1, last + 1))


async def collect(client: Client, sequence: int, last: int) -> list[int]:
    """Watch until the change of that number, or until the watch ends; return what was seen."""
    if isinstance(client, AsyncOperatorClient):
        seen = []
        async for change in client.watch(sequence):
            seen.append(change.sequence)
            if change.sequence >= last:
                break
        return seen

    def watch() -> list[int]:
        seen = []
        for change in client.watch(sequence):
            seen.append(change.sequence)
            if change.sequence >= last:
                break
        return seen

    return await asyncio.to_thread(watch)
