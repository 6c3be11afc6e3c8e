"""Streams go on when what gives them dies: real Envoys, real replica hosts, a real relay."""

import asyncio
import contextlib
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from skerry.fleet.engine import EngineName
from skerry.plumbing.processes import signal_process, terminate, wait_until_gone
from tests.integration.gateway_world import CLOCK, HOST, FakeEngine, eventually
from tests.integration.relay_world import (
    Milestone,
    a_question,
    a_relay_world,
    same,
    text_of,
)
from tests.integration.replica_process import an_engine, get_json

pytestmark = pytest.mark.integration
STREAMS = 20
LENGTH = 48
# What a text cut into tokens anew at a seam may count otherwise.
SPLIT_TOKENS_MAX = 8


async def test_twenty_streams_survive_the_killing_of_their_replica(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.start_replica("a2")
        await world.serve("a", "a1")
        questions = [
            a_question(
                f"question {number}",
                max_tokens=LENGTH,
                ignore_eos=True,
                stream_options={"include_usage": True},
            )
            for number in range(STREAMS)
        ]
        milestone = Milestone(12)
        running = [
            world.tasks.create_task(world.stream(question, on_event=milestone))
            for question in questions
        ]
        await milestone.reached.wait()
        await world.kill_replica("a1")
        await world.serve("a", "a2")
        told = await asyncio.gather(*running)
        for question, events in zip(questions, told, strict=True):
            unbroken = await world.stream(question)
            assert _without_cached(same(events)) == _without_cached(same(unbroken))
        assert await world.metric("skerry_relay_continuations_total") == STREAMS
        assert await world.metric("skerry_relay_broken_streams_total") == 0


async def test_generate_goes_on_with_the_same_tokens(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.start_replica("a2")
        await world.serve("a", "a1")
        for by_ids in (False, True):
            unbroken = await world.generate(_request(by_ids, "r-0"))
            served_by = "a2" if by_ids else "a1"
            assert f'replica;desc="{served_by}"' in world.trailers["server-timing"]
            milestone = Milestone(10)
            running = world.tasks.create_task(world.generate(_request(by_ids, "r-1"), milestone))
            await milestone.reached.wait()
            # Nobody is there to go on at first: it is looked for again and again.
            await world.kill_replica("a1" if not by_ids else "a2")
            await world.serve("a", "a2" if not by_ids else "a3")
            told = await running
            assert _tokens(told) == _tokens(unbroken)
            assert {response.request_id for response in told} == {"r-1"}
            (last,) = [response for response in told if response.HasField("usage")]
            assert last == told[-1]
            assert last.finished.reason == generation_pb2.FINISH_REASON_LENGTH
            assert last.usage.prompt_tokens == unbroken[-1].usage.prompt_tokens
            assert last.usage.completion_tokens == LENGTH
            if not by_ids:
                await world.start_replica("a3")
        assert await world.metric("skerry_relay_continuations_total") == 2


async def test_a_stream_of_a_peer_plane_goes_on_here_when_the_peer_dies(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("b1")
        await world.start_replica("a1")
        await world.serve("b", "b1")
        await world.serve("a", peers=("b",))
        question = a_question("where?", max_tokens=LENGTH, ignore_eos=True)
        milestone = Milestone(10)
        running = world.tasks.create_task(world.stream(question, on_event=milestone))
        await milestone.reached.wait()
        await world.world.planes["b"].kill()
        await world.kill_replica("b1")
        await world.serve("a", "a1")
        told = await running
        assert same(told) == same(await world.stream(question))
        assert await world.metric("skerry_relay_continuations_total") == 1


async def test_without_its_relay_a_stream_takes_the_way_it_had_before(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.serve("a", "a1")
        question = a_question("who?", max_tokens=8)
        unbroken = await world.stream(question)
        assert await world.metric("skerry_relay_streams_total") == 1
        assert world.relay is not None
        signal_process(world.relay, signal.SIGKILL)
        await wait_until_gone(world.relay)
        for _ in range(STREAMS):
            assert same(await world.stream(question)) == same(unbroken)
        assert _tokens(await world.generate(_request(False, "r"))) != []
        await world.start_relay()

        async def is_back() -> bool:
            await world.stream(question)
            return await world.metric("skerry_relay_streams_total") > 0

        await eventually(is_back)
        # A relay that hangs is left alone once its health check has missed twice.
        signal_process(world.relay, signal.SIGSTOP)

        async def is_passed_by() -> bool:
            status = await world.world.status("a")
            hosts = status.hosts.get("relay-http", ()) if status else ()
            return [host.healthy for host in hosts] == [False]

        await eventually(is_passed_by)
        assert same(await world.stream(question)) == same(unbroken)


async def test_a_client_that_goes_away_frees_the_engines_slot(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.serve("a", "a1")
        milestone = Milestone(5)
        question = a_question("how long?", max_tokens=400, ignore_eos=True)
        running = world.tasks.create_task(world.stream(question, on_event=milestone))
        await milestone.reached.wait()
        running.cancel()
        await asyncio.wait((running,))
        started = CLOCK.monotonic()

        async def is_free() -> bool:
            _, load = await get_json(f"{world.replicas['a1'].health}/load")
            return bool(load["running_requests"] == 0)

        await eventually(is_free)
        assert CLOCK.monotonic() - started < 1.0
        assert await world.metric("skerry_relay_breaks_total") == 0
        assert await world.metric("skerry_relay_held_bytes") == 0


async def test_what_cannot_be_continued_ends_with_an_error_that_says_why(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.start_replica("a2")
        await world.serve("a", "a1", "a2")
        seeded = a_question("why?", max_tokens=LENGTH, ignore_eos=True, seed=7, temperature=1)
        request = _request(False, "r-1")
        request.sampling.temperature, request.sampling.seed = 1, 7
        begun = Milestone(10), Milestone(10)
        running = (
            world.tasks.create_task(world.stream(seeded, on_event=begun[0])),
            world.tasks.create_task(world.generate(request, begun[1])),
        )
        await asyncio.gather(*(milestone.reached.wait() for milestone in begun))
        await world.kill_replica("a1")
        await world.kill_replica("a2")
        events, responses = await asyncio.gather(*running)
        assert events[-1]["error"]["code"] == "stream_not_continued"
        assert events[-1]["error"]["reason"] == "seed"
        assert responses[-1].error.code == error_pb2.ERROR_CODE_INTERNAL
        assert "seed" in responses[-1].error.message
        assert await world.metric("skerry_relay_broken_streams_total") == 2
        assert await world.metric("skerry_relay_unkept_streams_total") == 2


async def test_a_refused_generate_has_the_gateways_own_status(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.serve("a")  # by nobody
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.generate(_request(False, "r-1"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "no healthy upstream"


async def test_a_generate_cut_behind_its_head_is_asked_for_again(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.serve("a", "a1")
        unbroken = await world.generate(_request(False, "r-0"))
        silent = world.world.engines["silent"] = FakeEngine("silent")
        silent.may_generate.clear()
        await silent.start()
        wire = _Wire(silent.grpc_port)
        silent.grpc_port = await wire.start()
        await world.serve("a", "silent")
        running = world.tasks.create_task(world.generate(_request(False, "r-1")))
        await silent.generating.wait()
        await world.serve("a", "silent", "a1")
        await wire.cut()
        assert _tokens(await running) == _tokens(unbroken)


async def test_a_request_that_kills_two_engines_is_not_tried_on_a_third(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.serve("a", "a1")
        question = a_question("what kills?", max_tokens=LENGTH, ignore_eos=True)
        unbroken = text_of(await world.stream(question))
        words = unbroken.split()
        # The first word that comes late enough, and for the first time: each engine dies before it.
        place = next(n for n, word in enumerate(words) if n > 8 and words.index(word) == n)
        deadly = {f"b{n}" for n in range(1, 4)}
        for name in sorted(deadly):
            await world.start_replica(name, fail_on_word=words[place])
        await world.serve("a", *sorted(deadly))
        events = await world.stream(question)
        assert events[-1]["error"]["reason"] == "suspect"
        assert text_of(events[:-1]) == "".join(f" {word}" for word in words[:place])

        # A replica host notes its engine's end a moment after the gateway does.
        async def have_restarted() -> bool:
            return sum(world.replicas[name].record().restarts for name in deadly) >= 2

        await eventually(have_restarted)
        # Two in all: the second may be the next engine of the first one's replica, back in 0.2 s.
        assert sum(world.replicas[name].record().restarts for name in deadly) == 2


async def test_beyond_its_memory_the_relay_carries_streams_without_keeping_them(
    tmp_path: Path,
) -> None:
    async with a_relay_world(tmp_path) as world:
        assert world.relay is not None
        await terminate(world.relay, CLOCK, 5.0)
        await world.start_relay(held_bytes_max=0)
        await world.start_replica("a1")
        await world.serve("a", "a1")
        question = a_question("how much?", max_tokens=LENGTH, ignore_eos=True)
        assert text_of(await world.stream(question)) != ""
        assert await world.metric("skerry_relay_unkept_streams_total") >= 1
        milestone = Milestone(10)
        running = world.tasks.create_task(world.stream(question, on_event=milestone))
        await milestone.reached.wait()
        await world.kill_replica("a1")
        events = await running
        assert events[-1]["error"]["reason"] == "memory"


async def test_llamacpp_goes_on_with_the_assistants_message(tmp_path: Path) -> None:
    # The little model writes 1,000 tokens/s: a long answer is still under way when it dies.
    engine = replace(an_engine(EngineName.LLAMACPP), context_tokens=4096)
    async with a_relay_world(tmp_path, engine) as world:
        await world.start_replica("a1")
        await world.start_replica("a2")
        await world.serve("a", "a1")
        question = a_question("Tell me a story.", max_tokens=2000, ignore_eos=True)
        question |= {"stream_options": {"include_usage": True}}
        unbroken = await world.stream(question)
        counts: list[int] = []
        milestone = Milestone(10)

        def count(number: int) -> None:
            counts.append(number)
            milestone(number)

        running = world.tasks.create_task(world.stream(question, on_event=count))
        await milestone.reached.wait()
        before = counts[-1]
        await world.kill_replica("a1")
        await world.serve("a", "a2")
        told = await running
        assert await world.metric("skerry_relay_continuations_total") == 1
        assert told[-1] == "[DONE]"
        # Of one stream it has many times of creation, of its own.
        assert len({event["id"] for event in told[:-1]}) == 1
        # Text crosses the seam: the engine cuts it anew there, and may choose another word behind
        # it; what was told stays, and the length is the one asked for.
        assert text_of(unbroken).startswith(text_of(told[:before]))
        finals = [e["choices"][0]["finish_reason"] for e in told[:-1] if e["choices"]]
        assert [reason for reason in finals if reason] == ["length"]
        assert told[-2]["usage"]["completion_tokens"] == 2000
        prompt, counted = (e[-2]["usage"]["prompt_tokens"] for e in (unbroken, told))
        assert abs(counted - prompt) <= SPLIT_TOKENS_MAX


class _Wire:
    """Passes bytes on to a port of this machine, until it is cut as a killed process cuts it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Return the port of the other end."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._port)
        self._open += [writer, far_writer]
        with contextlib.suppress(OSError):
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def _request(by_ids: bool, request_id: str) -> generation_pb2.GenerateRequest:
    request = generation_pb2.GenerateRequest(request_id=request_id)
    if by_ids:
        request.token_ids.ids.extend([101, 102, 103])
    else:
        request.prompt = "hello"
    request.sampling.temperature = 0
    request.stopping.max_tokens, request.stopping.ignore_eos = LENGTH, True
    return request


def _tokens(responses: list[generation_pb2.GenerateResponse]) -> list[int]:
    return [piece.token_id for response in responses for piece in response.token.tokens]


def _without_cached(events: list[Any]) -> list[Any]:
    """Return the events without how much of the prompt was cached, which differs by replica."""
    for event in events:
        if event != "[DONE]" and event.get("usage"):
            event["usage"].pop("prompt_tokens_details", None)
    return events
