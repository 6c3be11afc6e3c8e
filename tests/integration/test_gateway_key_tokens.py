"""API keys' tokens before a real gateway and picker: what answers used, and who is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from skerry.fleet.api_key import ApiKey, KeyTerms, digest_of_key, key_text
from skerry.fleet.token_budget import BudgetPeriod
from tests.integration.gateway_world import FakeEngine, eventually
from tests.integration.picker_world import PickedWorld, a_picked_world, a_routed_model
from tests.integration.test_gateway_keys import bearer, grpc_code

pytestmark = pytest.mark.integration

RATED, SPENDS = key_text("rated", "R" * 43), key_text("spends", "B" * 43)
PER_MINUTE, BUDGET = 600, 1_000
KEYS = tuple(
    ApiKey(
        name=text[3:].partition("_")[0],
        digest=digest_of_key(text),
        terms=KeyTerms(deployments=("*",), **terms),
    )
    for text, terms in (
        (RATED, {"tokens_per_minute": PER_MINUTE}),
        (SPENDS, {"budget_tokens": BUDGET, "budget_period": BudgetPeriod.DAY}),
    )
)
TOLD, ESTIMATED = (
    f'skerry_picker_key_tokens_total{{source="{source}"}}' for source in ("told", "estimated")
)


def used(prompt: int, answer: int) -> dict[str, int]:
    total = prompt + answer
    return {"completion_tokens": answer, "prompt_tokens": prompt, "total_tokens": total}


@asynccontextmanager
async def a_counting_gateway(tmp_path: Path) -> AsyncIterator[tuple[PickedWorld, FakeEngine]]:
    async with a_picked_world(tmp_path) as picked:
        engine = await picked.engine("a1")
        one = picked.world.planes["a"]
        one.topology = replace(one.topology, api_keys=KEYS)
        await picked.publish("a", a_routed_model("1", engine))
        yield picked, engine


@asynccontextmanager
async def asked(picked: PickedWorld, text: str, **body: Any) -> AsyncIterator[Any]:
    url = f"{picked.world.planes['a'].url}/v1/chat/completions"
    told = {"model": "m1", "messages": [], **body}
    async with picked.world.client.post(url, json=told, headers=bearer(text)) as response:
        yield response


async def test_a_key_is_refused_by_what_its_answers_told_that_they_used(tmp_path: Path) -> None:
    async with a_counting_gateway(tmp_path) as (picked, engine):
        # Some engines repeat the fields of a request after their own: nobody writes his own bill.
        engine.usage = used(100, 50) | {"metadata": {"usage": used(0, 0)}}
        async with asked(picked, RATED) as response:
            assert response.status == 200
            assert response.headers["x-ratelimit-limit-tokens"] == str(PER_MINUTE)
        await picked.shows("a", TOLD, 150)
        engine.usage = used(400, 500)
        engine.next_event.set()
        async with asked(picked, RATED, stream=True) as response:
            assert response.status == 200
            assert b"[DONE]" in await response.read()
        await picked.shows("a", TOLD, 1_050)
        async with asked(picked, RATED) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (429, "rate_limit_exceeded")
            assert error["type"] == "tokens"
            assert int(response.headers["retry-after"]) > 30
            assert response.headers["x-ratelimit-remaining-tokens"] == "0"
        code, details = await grpc_code(picked.world, RATED)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details.startswith("this API key has no more tokens")
        async with asked(picked, SPENDS, max_tokens=1) as response:
            assert response.status == 200, "another key"
        await picked.pickers["a"].kill()
        async with asked(picked, RATED) as response:
            assert response.status == 200, "nobody counts while the picker is away"


async def test_a_budget_outlasts_the_picker_and_streams_that_tell_nothing_are_counted(
    tmp_path: Path,
) -> None:
    async with a_counting_gateway(tmp_path) as (picked, engine):
        engine.next_event.set()
        assert (await grpc_code(picked.world, SPENDS))[0] is grpc.StatusCode.OK
        async with asked(picked, SPENDS, stream=True) as response:
            assert response.status == 200
            await response.read()

        async def both_ended() -> bool:
            values = await picked.metrics("a")
            ended = values.get('skerry_picker_log_entries_total{outcome="matched"}')
            return ended == 2 and 0 < values[ESTIMATED] < 100

        await eventually(both_ended)
        engine.usage = used(BUDGET, 1)
        async with asked(picked, SPENDS) as response:
            assert response.status == 200
        await picked.shows("a", TOLD, BUDGET + 1)
        handle = picked.pickers["a"]
        path = handle.data_dir / "spent.json"

        async def kept() -> bool:
            if not path.exists():
                return False
            return bool(sum(one[2] for one in json.loads(path.read_bytes())["spent"]) > BUDGET)

        await eventually(kept)
        await handle.kill()
        handle.start()
        await picked.asked("a")

        async def knows() -> bool:
            async with asked(picked, SPENDS) as response:
                if response.status != 429:
                    return False
                error = (await response.json())["error"]
                assert (error["type"], error["code"]) == ("insufficient_quota",) * 2
                assert 0 < int(response.headers["retry-after"]) <= 86_400
                return True

        await eventually(knows)
        code, details = await grpc_code(picked.world, SPENDS)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "its budget of tokens" in details
