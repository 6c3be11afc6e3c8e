"""Requests that ask engines for too much, through a gateway: each has its status, nothing dies.

With llama.cpp, which hangs and dies of some of them by itself, and with the simulated engine.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from skerry.fleet.deployment import BaseModel
from skerry.fleet.engine import EngineName, EngineSpec
from tests.integration.agent_world import AgentWorld, a_deployment, a_desired
from tests.integration.replica_process import CLOCK

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

MODELS = Path(__file__).parents[2] / "examples" / "models"
LLAMACPP, SIMULATED = "demo", "simulated"
# Others wait for a turn of the engine at most; beside other tests that is seconds.
OTHERS_SECONDS_MAX = 15.0
# Of llama.cpp at its smallest batch, and what a restart takes.
STUCK_SECONDS_MAX = 100.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AgentWorld]:
    world = AgentWorld(tmp_path_factory.mktemp("plane"))
    world.settings["model_dirs"] = [str(MODELS)]
    world.settings_path.write_text(json.dumps(world.settings))
    await world.start_link()
    world.start_agent()
    simulated = a_deployment(name=SIMULATED)
    engine = EngineSpec(
        name=EngineName.LLAMACPP,
        context_tokens=1024,
        concurrent_requests=2,
        options=(("batch-size", "32"),),
    )
    revision = replace(
        simulated.revision,
        base_model=BaseModel(uri="builtin://skerry-tiny", served_name=LLAMACPP),
        engine=engine,
    )
    real = replace(simulated, name=LLAMACPP, revision=revision)
    await world.link.pushes.put(a_desired(1, 1, real, simulated))
    try:
        await world.ready(2)
        world.start_gateway()
        async with aiohttp.ClientSession() as session:
            for model in (LLAMACPP, SIMULATED):
                await until_answered(world, session, model)
        yield world
    finally:
        await world.close()


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def ask(
    world: AgentWorld, session: aiohttp.ClientSession, model: str, body: bytes = b"", **fields: Any
) -> tuple[int, Any]:
    """Send a chat through the gateway; a `body` as it is, with the model's name put in."""
    said = [{"role": "user", "content": "What is a plane?"}]
    told = {"model": model, "messages": said, "max_tokens": 8, "temperature": 0, **fields}
    data = body.replace(b"MODEL", model.encode()) or json.dumps(told).encode()
    url, headers = (
        f"http://{world.public}/v1/chat/completions",
        {"content-type": "application/json"},
    )
    async with session.post(url, data=io.BytesIO(data), headers=headers) as response:
        return response.status, await response.json()


async def until_answered(world: AgentWorld, session: aiohttp.ClientSession, model: str) -> None:
    """Ask until it is answered with 200."""
    while True:
        try:
            async with asyncio.timeout(5.0):
                if (await ask(world, session, model))[0] == 200:
                    return
        except (TimeoutError, aiohttp.ClientError):
            pass
        await CLOCK.sleep(0.2)


def engine_pids(world: AgentWorld) -> set[int]:
    return {record.engine_pid for record in world.replicas("ready")}


def schema(inner: Any) -> dict[str, Any]:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": inner}}
    }


def nested(begin: str, inner: str, end: str, times: int) -> bytes:
    """Return a chat whose schema is nested so often; Python's own JSON does not go so deep."""
    whole = begin * times + inner + end * times
    head = '{"model":"MODEL","messages":[{"role":"user","content":"x"}],"max_tokens":8,'
    form = f'"response_format":{{"type":"json_schema","json_schema":{{"schema":{whole}}}}}}}'
    return (head + form).encode()


def parentheses(times: int) -> str:
    return f'root ::= {"(" * times}"a"{")" * times}'


def in_escapes(times: int) -> bytes:
    """Return a chat with a grammar nested so often, of which no parenthesis can be seen."""
    said = [{"role": "user", "content": "x"}]
    body = {"model": "MODEL", "messages": said, "max_tokens": 8, "grammar": parentheses(times)}
    return json.dumps(body).replace("(", "\\u0028").replace(")", "\\u0029").encode()


MANY = 100_000
LOOP = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
ADAPTER = {"lora_name": "x", "lora_int_id": 1, "lora_path": "/etc"}
BREAKERS = {"dry_multiplier": 1, "dry_sequence_breakers": ["a"] * MANY}
# The status with llama.cpp, then with the simulated engine; some come from the gateway.
CASES: list[tuple[str, dict[str, Any], int, int]] = [
    ("a million answers", {"n": 10**6}, 400, 400),
    ("more answers than places", {"n": 3}, 400, 400),
    ("no answer", {"n": 0}, 400, 400),
    ("a trillion tokens", {"max_tokens": 10**12}, 400, 400),
    ("tokens beyond 64 bits", {"max_tokens": 2**64}, 400, 400),
    ("ten thousand stop words", {"stop": [f"x{i}" for i in range(10_000)]}, 400, 400),
    ("sixteen stop words", {"stop": [f"x{i}" for i in range(16)]}, 200, 200),
    ("a bias on no token", {"logit_bias": {str(10**9): 5, "-1": 5}}, 200, 200),
    ("a bias on many tokens", {"logit_bias": {str(i): 1 for i in range(MANY)}}, 400, 200),
    ("a deep grammar", {"grammar": parentheses(MANY)}, 400, 200),
    ("a deep grammar that is short", {"grammar": parentheses(2_000)}, 400, 200),
    ("one in escapes", {"body": in_escapes(1_000)}, 200, 200),
    ("a deep one in escapes", {"body": in_escapes(MANY)}, 400, 200),
    ("a left recursion", {"grammar": 'root ::= root "a" | "a"'}, 400, 200),
    ("repeated repetitions", {"grammar": 'root ::= (("a"{1,2000}){1,2000})'}, 400, 200),
    ("no grammar", {"grammar": "root :: ="}, 400, 200),
    ("a grammar of two megabytes", {"grammar": 'root ::= "a"\n# ' + "x" * 2**21}, 400, 200),
    ("a deep pattern", schema({"type": "string", "pattern": parentheses(MANY)}), 400, 400),
    ("many choices", schema({"enum": [f"v{i}" for i in range(MANY)]}), 400, 400),
    ("many properties", schema({"properties": {f"p{i}": {} for i in range(MANY)}}), 400, 400),
    ("a billion letters", schema({"type": "string", "minLength": 10**9}), 400, 400),
    ("a loop of references", schema(LOOP), 400, 400),
    ("a schema below the bound", {"body": nested('{"items":', "{}", "}", 100)}, 200, 400),
    ("a deep schema", {"body": nested('{"items":', "{}", "}", 1_000)}, 400, 400),
    ("a very deep schema", {"body": nested('{"items":', "{}", "}", 20_000)}, 400, 400),
    ("many sequence breakers", BREAKERS, 400, 200),
    ("an adapter by its path", {"lora_request": ADAPTER}, 400, 400),
]


@pytest.mark.parametrize("model", [LLAMACPP, SIMULATED])
@pytest.mark.parametrize(
    ("fields", "real", "simulated"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_what_asks_for_too_much_has_its_status_and_others_are_answered(
    world: AgentWorld,
    session: aiohttp.ClientSession,
    model: str,
    fields: dict[str, Any],
    real: int,
    simulated: int,
) -> None:
    engines = engine_pids(world)
    status, answer = await ask(world, session, model, **fields)
    assert status == (real if model == LLAMACPP else simulated), str(answer)[:500]
    if status != 200:
        assert answer["error"]["message"]
        assert answer["error"]["type"] == "invalid_request_error"
    async with asyncio.timeout(OTHERS_SECONDS_MAX):
        for other in (LLAMACPP, SIMULATED):
            assert (await ask(world, session, other))[0] == 200
    assert engine_pids(world) == engines, "no engine was started again for it"


async def test_fields_beside_a_long_prompt_are_not_taken_for_a_part_of_it(
    world: AgentWorld, session: aiohttp.ClientSession
) -> None:
    marks = '"{[(,:' * 5_000  # of the prompt it is just text, however long
    said = [{"role": "user", "content": marks}]
    status, answer = await ask(world, session, LLAMACPP, messages=said)
    assert (status, "context" in answer["error"]["message"]) == (400, True), str(answer)[:500]
    told = {"messages": said, "stop": ["x" * 20_000], "model": LLAMACPP}
    for ordered in (told, dict(reversed(told.items()))):
        status, answer = await ask(world, session, LLAMACPP, json.dumps(ordered).encode())
        assert (status, answer["error"]["code"]) == (400, "too_complex")


@pytest.mark.timeout(240)
async def test_an_engine_that_never_ends_what_it_works_on_is_replaced_and_serves_again(
    world: AgentWorld, session: aiohttp.ClientSession
) -> None:
    engines = engine_pids(world)
    # As many readings of each letter as there are ways to share it among two hundred rules.
    grammar = f"root ::= {'x ' * 200}\nx ::= [a-z ]*"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await ask(world, session, LLAMACPP, grammar=grammar, max_tokens=64)
    assert (await ask(world, session, SIMULATED))[0] == 200
    async with asyncio.timeout(STUCK_SECONDS_MAX):
        await until_answered(world, session, LLAMACPP)
    await world.until(lambda: len(engines & engine_pids(world)) == 1)
