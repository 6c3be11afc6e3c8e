"""NVIDIA Dynamo in front of a replica: its OpenEngine sidecar and its frontend, as published.

Nobody here wrote this client of `openengine.v1`. It tokenizes by itself, sends token ids, aborts
when its user hangs up, and has its own idea of what a refusal means. `make test-foreign`.
"""

import json
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.ports import free_port
from skerry.plumbing.processes import is_alive, signal_process, spawn, terminate
from tests.foreign.environments import foreign_python
from tests.foreign.hub_folder import write_hub_folder
from tests.integration.replica_process import (
    CLOCK,
    MODEL,
    SERVED,
    RunningReplica,
    a_spec,
    get_json,
    post_json,
    running_replica,
    until,
)
from workload_plane.replica_host.lifecycle import HostState

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.integration,
    pytest.mark.timeout(1200),  # the first run fetches 80 MB
    pytest.mark.asyncio(loop_scope="module"),
]

# Without its dependencies: those are GPU libraries that neither program here opens.
DYNAMO = ("ai-dynamo==1.6.1", "ai-dynamo-runtime==1.6.1")
DYNAMO_NEEDS = (
    "annotated-types==0.8.0",
    "msgspec==0.22.0",
    "packaging==26.4",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "pyyaml==6.0.4",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
    "uvloop==0.23.0",
)
CHAT = {
    "model": SERVED,
    "messages": [{"role": "user", "content": "What is a plane?"}],
    "max_tokens": 24,
    "temperature": 0,
}
ENDLESS = CHAT | {"max_tokens": 1900, "ignore_eos": True, "stream": True}
LONG_TOKENS = 1500
START_SECONDS_MAX = 60.0
# The promise is 1 s from the hang-up to the free slot; two programs lie between.
FREE_SECONDS_MAX = 1.0


@dataclass(frozen=True)
class Dynamo:
    """The frontend's address, and the replica behind it."""

    url: str
    replica: RunningReplica

    async def chat(self, **changes: Any) -> tuple[int, Any]:
        return await post_json(f"{self.url}/v1/chat/completions", CHAT | changes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dynamo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dynamo]:
    python = str(foreign_python("dynamo", (*DYNAMO, *DYNAMO_NEEDS), without_dependencies=True))
    folder = tmp_path_factory.mktemp("dynamo")
    # It asks the engine for the model by the very words of --model-path.
    write_hub_folder(MODEL, folder / SERVED)
    port = free_port("127.0.0.1")
    environment = {
        **os.environ,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_FILE_KV": str(folder / "discovery"),
    }
    engine = EngineSpec(name=EngineName.LLAMACPP, context_tokens=2048, concurrent_requests=2)
    async with running_replica(a_spec(folder / "replica", engine)) as replica:
        grpc = ("--grpc-endpoint", replica.grpc, "--grpc-connections", "1")
        http = ("--http-host", "127.0.0.1", "--http-port", str(port))
        commands = {
            "sidecar": ("dynamo.trtllm.sidecar", "--model-path", SERVED, *grpc),
            "frontend": ("dynamo.frontend", *http),
        }
        started = [
            spawn(
                (python, "-m", *command),
                env=environment,
                cwd=folder,
                stdout_path=folder / f"{name}.log",
            )
            for name, command in commands.items()
        ]
        try:
            one = Dynamo(f"http://127.0.0.1:{port}", replica)
            await _until_listed(one)
            assert all(is_alive(process) for process in started)
            yield one
        finally:
            for process in started:
                await terminate(process, CLOCK, 10.0)


async def _until_listed(dynamo: Dynamo) -> None:
    deadline = CLOCK.monotonic() + START_SECONDS_MAX
    while CLOCK.monotonic() < deadline:
        try:
            _, models = await get_json(f"{dynamo.url}/v1/models")
            if models["data"]:
                return
        except (aiohttp.ClientError, OSError):
            pass
        await CLOCK.sleep(0.1)
    raise AssertionError("Dynamo does not list the model")


async def test_its_chat_is_the_engines_own(dynamo: Dynamo) -> None:
    status, answer = await dynamo.chat()
    assert status == 200, answer
    url = f"{dynamo.replica.http}/v1/chat/completions"
    _, own = await post_json(url, CHAT)
    told, said = answer["choices"][0], own["choices"][0]
    assert told["message"]["content"] == said["message"]["content"]
    assert told["finish_reason"] == said["finish_reason"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert answer["usage"][name] == own["usage"][name]


async def test_its_stream_has_many_pieces_and_one_usage_at_the_end(dynamo: Dynamo) -> None:
    # Long enough that it is still being made when its beginning is sent on: what an engine has made
    # meanwhile goes in one piece, and this one makes a short answer at once.
    long = {"max_tokens": LONG_TOKENS, "ignore_eos": True}
    body = CHAT | long | {"stream": True, "stream_options": {"include_usage": True}}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{dynamo.url}/v1/chat/completions", json=body) as response:
            assert response.status == 200
            text = await response.text()
    *events, last = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in events]
    pieces = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    _, whole = await dynamo.chat(**long)
    assert "".join(piece or "" for piece in pieces) == whole["choices"][0]["message"]["content"]
    assert len(pieces) > 3
    assert [bool(chunk.get("usage")) for chunk in chunks].count(True) == 1
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


async def test_stops_logprobs_and_schemas_reach_the_engine(dynamo: Dynamo) -> None:
    _, answer = await dynamo.chat(logprobs=True, top_logprobs=2)
    first = answer["choices"][0]["logprobs"]["content"][0]
    assert first["logprob"] == pytest.approx(first["top_logprobs"][0]["logprob"])
    assert len(first["top_logprobs"]) == 2
    _, answer = await dynamo.chat(stop=["site"])
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "site" not in answer["choices"][0]["message"]["content"]
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    kind = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    _, answer = await dynamo.chat(response_format=kind, max_tokens=60)
    # The small model never ends a document by itself; what it writes keeps to the schema.
    assert re.match(r"\{\s*\"a\"\s*:\s*(true|false)", answer["choices"][0]["message"]["content"])


async def test_what_the_engine_lacks_is_the_users_fault_and_harms_nobody(dynamo: Dynamo) -> None:
    status, answer = await dynamo.chat(min_tokens=3)
    assert status == 400, answer
    # Dynamo takes a worker that fails out of rotation; a refusal is no failure.
    assert (await dynamo.chat())[0] == 200


async def test_a_user_who_hangs_up_frees_the_slot_within_a_second(dynamo: Dynamo) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(3):  # one more than there are slots
            response = await session.post(f"{dynamo.url}/v1/chat/completions", json=ENDLESS)
            await response.content.readany()
            started = CLOCK.monotonic()
            response.close()
            while await _running(dynamo.replica):
                assert CLOCK.monotonic() - started < FREE_SECONDS_MAX
                await CLOCK.sleep(0.01)


async def test_a_killed_engine_is_back_without_a_restart_of_dynamo(dynamo: Dynamo) -> None:
    before = dynamo.replica.record()
    assert before.engine is not None
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{dynamo.url}/v1/chat/completions", json=ENDLESS)
        await response.content.readany()
        signal_process(before.engine, signal.SIGKILL)
        text = await response.text()  # it ends, and does not hang
        assert "[DONE]" not in text or "error" in text
    await until(lambda: dynamo.replica.record().restarts == before.restarts + 1, 10)
    await until(lambda: dynamo.replica.record().state is HostState.READY, 10)
    started = CLOCK.monotonic()
    while (await dynamo.chat())[0] != 200:
        assert CLOCK.monotonic() - started < 30, "Dynamo does not find the replica again"
        await CLOCK.sleep(0.2)


async def _running(replica: RunningReplica) -> int:
    _, load = await get_json(f"{replica.health}/load")
    return int(load["running_requests"]) + int(load["grpc_requests"])
