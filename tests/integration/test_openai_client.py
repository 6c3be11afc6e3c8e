"""OpenAI's own Python package against a plane's gateway: Envoy, a replica host, llama.cpp.

Nobody here wrote this client. What it takes for an answer, a stream, a usage and each kind of
error is what its users get.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionChunk

from skerry.fleet.deployment import BaseModel
from skerry.fleet.engine import EngineName, EngineSpec
from tests.integration.agent_world import HOST, AgentWorld, a_deployment, a_desired
from tests.integration.replica_process import CLOCK, get_json
from workload_plane.gateway.wire import BODY_BYTES_MAX

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

MODELS = Path(__file__).parents[2] / "examples" / "models"
ASK: Any = [{"role": "user", "content": "What is a plane?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AgentWorld]:
    world = AgentWorld(tmp_path_factory.mktemp("plane"))
    world.settings["model_dirs"] = [str(MODELS)]
    world.settings_path.write_text(json.dumps(world.settings))
    await world.start_link()
    world.start_agent()
    deployment = a_deployment()
    revision = replace(
        deployment.revision,
        base_model=BaseModel(uri="builtin://skerry-tiny", served_name="demo"),
        engine=EngineSpec(name=EngineName.LLAMACPP, context_tokens=1024, concurrent_requests=2),
    )
    await world.link.pushes.put(a_desired(1, 1, replace(deployment, revision=revision)))
    try:
        await world.ready(1)
        world.start_gateway()
        world.run("workload_plane.front.main")
        async with aiohttp.ClientSession() as session:
            await world.until_served(session)
        yield world
    finally:
        await world.close()


@pytest_asyncio.fixture(loop_scope="module")
async def client(world: AgentWorld) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://{world.public}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as opened:
        yield opened


async def error_of(asked: Any, kind: type[openai.APIStatusError]) -> dict[str, Any]:
    """Return the `error` object that the client raised; fails when it is not of that shape."""
    with pytest.raises(kind) as caught:
        await asked
    body = caught.value.body
    assert isinstance(body, dict), f"no error of OpenAI's shape: {caught.value}"
    assert isinstance(body["message"], str)
    assert body["message"]
    assert isinstance(body["type"], str)
    return body


async def test_chat_has_a_message_a_reason_and_a_usage(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="demo", messages=ASK, max_tokens=8, temperature=0
    )
    (choice,) = answer.choices
    assert (answer.object, answer.model) == ("chat.completion", "demo")
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


async def test_a_stream_is_the_same_text_with_its_usage_at_the_end(
    client: openai.AsyncOpenAI,
) -> None:
    asked: Any = {"model": "demo", "messages": ASK, "max_tokens": 20, "temperature": 0}
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert choices[0].delta.role == "assistant"
    text = "".join(choice.delta.content or "" for choice in choices)
    assert text == whole.choices[0].message.content
    assert [choice.finish_reason for choice in choices[-2:]] == [None, "length"]
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


async def test_a_stream_has_no_usage_that_was_not_asked_for(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="demo", messages=ASK, max_tokens=3, stream=True
    )
    assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_completions_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "demo", "prompt": "The sea is", "max_tokens": 6, "temperature": 0}
    whole = await client.completions.create(**asked)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6
    stream = await client.completions.create(**asked, stream=True)
    pieces = [chunk.choices[0].text async for chunk in stream if chunk.choices]
    assert "".join(pieces) == whole.choices[0].text


async def test_models_are_listed_and_told_one_by_one(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo"]
    assert (await client.models.retrieve("demo")).id == "demo"
    error = await error_of(client.models.retrieve("nobody"), openai.NotFoundError)
    assert "demo" in error["message"]


async def test_stops_logprobs_and_json_are_the_engines(client: openai.AsyncOpenAI) -> None:
    create = client.chat.completions.create
    asked: Any = {"model": "demo", "messages": ASK, "max_tokens": 12, "temperature": 0}
    stopped = (await create(**asked, stop=["site"])).choices[0]
    assert stopped.finish_reason == "stop"
    assert "site" not in (stopped.message.content or "")
    logprobs = (await create(**asked, logprobs=True, top_logprobs=2)).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 12
    assert len(logprobs.content[0].top_logprobs) == 2
    answer = await create(**asked, response_format={"type": "json_object"})
    # The grammar lets the small model write blanks first, as many as it likes.
    assert (answer.choices[0].message.content or "").lstrip()[:1] in ("", "{")


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_that_the_engine_would_ignore_are_refused_by_name(
    client: openai.AsyncOpenAI, stream: bool
) -> None:
    asked = client.chat.completions.create(model="demo", messages=ASK, tools=TOOLS, stream=stream)
    error = await error_of(asked, openai.BadRequestError)
    assert (error["param"], error["code"]) == ("tools", "unsupported_feature")
    assert "takes no tools" in error["message"]


async def test_a_message_about_tools_and_an_empty_list_of_them_are_answered(
    client: openai.AsyncOpenAI,
) -> None:
    said: Any = [{"role": "user", "content": 'What is "tools": [{"type": 1}]?'}]
    answer = await client.chat.completions.create(
        model="demo", messages=said, max_tokens=2, tools=[]
    )
    assert answer.choices[0].message.content


async def test_an_unknown_model_is_404_and_names_what_is_served(
    client: openai.AsyncOpenAI,
) -> None:
    for asked in (
        client.chat.completions.create(model="nobody", messages=ASK),
        client.completions.create(model="nobody", prompt="x"),
    ):
        error = await error_of(asked, openai.NotFoundError)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "demo" in error["message"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "context"),
        ({"model": ""}, "model"),
    ],
)
async def test_what_is_wrong_with_a_request_is_a_400_that_names_it(
    client: openai.AsyncOpenAI, fields: dict[str, Any], word: str
) -> None:
    asked: Any = {"model": "demo", "messages": ASK} | fields
    error = await error_of(client.chat.completions.create(**asked), openai.BadRequestError)
    assert word in error["message"]


async def test_a_body_that_is_too_large_is_told_by_its_limit(client: openai.AsyncOpenAI) -> None:
    text: Any = [{"role": "user", "content": "x" * (BODY_BYTES_MAX + 1)}]
    asked = client.chat.completions.create(model="demo", messages=text)
    error = await error_of(asked, openai.APIStatusError)
    assert error["code"] == "body_too_large"
    assert "4 MiB" in error["message"]


async def test_a_stream_that_is_left_frees_the_engine_within_a_second(
    world: AgentWorld, client: openai.AsyncOpenAI
) -> None:
    (record,) = world.replicas("ready")
    for _ in range(3):  # one more than there are slots
        stream = await client.chat.completions.create(
            model="demo",
            messages=ASK,
            max_tokens=900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        await anext(aiter(stream))
        started = CLOCK.monotonic()
        await stream.close()
        while (await get_json(f"http://{HOST}:{record.health_port}/load"))[1]["running_requests"]:
            assert CLOCK.monotonic() - started < 1
            await CLOCK.sleep(0.01)
