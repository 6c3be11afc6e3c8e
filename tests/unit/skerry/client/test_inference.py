"""The client of several gateways: it goes on before the first token, and never after."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from skerry.client.gateways import (
    COOL_DOWN_SECONDS,
    AttemptFailed,
    Gateway,
    Request,
    RequestKind,
    Result,
    order_gateways,
)
from skerry.client.inference import InferenceClient
from skerry.plumbing.errors import InvalidInput
from tests.fakes.clock import FakeClock

A, B, C = (Gateway(name=n, http=f"{n}:1", grpc=f"{n}:1") for n in ("a", "b", "c"))
REQUEST = Request(kind=RequestKind.CHAT_STREAM, model="m", prompt="p")

Script = Sequence[str | Exception]


class ScriptedTransport:
    """Plays one script per gateway and attempt; the last one repeats."""

    def __init__(self, clock: FakeClock, scripts: dict[str, list[Script]]) -> None:
        self.clock = clock
        self.scripts = scripts
        self.tried: list[str] = []

    async def attempt(
        self, gateway: Gateway, request: Request
    ) -> AsyncGenerator[tuple[str, int], None]:
        self.tried.append(gateway.name)
        scripts = self.scripts[gateway.name]
        script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        for piece in script:
            if isinstance(piece, Exception):
                raise piece
            self.clock.advance(0.5)
            yield piece, 1


def client_of(clock: FakeClock, **scripts: list[Script]) -> tuple[InferenceClient, list[str]]:
    """Return a client of the gateways named, and the list of those it tried."""
    transport = ScriptedTransport(clock, dict(scripts))
    gateways = [g for g in (A, B, C) if g.name in scripts]
    return InferenceClient(gateways, transport, clock), transport.tried


async def test_the_preferred_gateway_answers() -> None:
    client, tried = client_of(FakeClock(), a=[["x"]], b=[["y", "z"]])
    outcome = await client.send(REQUEST, preferred=1)
    assert (outcome.result, outcome.gateway, outcome.attempts) == (Result.OK, "b", 1)
    assert (outcome.ttft_seconds, outcome.tokens) == (0.5, 2)
    assert tried == ["b"]


async def test_before_the_first_token_the_next_gateway_is_tried() -> None:
    client, tried = client_of(FakeClock(), a=[[AttemptFailed("refused")]], b=[["y"]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.gateway, outcome.attempts) == (Result.OK, "b", 2)
    assert tried == ["a", "b"]


async def test_after_the_first_token_a_break_is_told_and_not_sent_again() -> None:
    client, tried = client_of(FakeClock(), a=[["x", AttemptFailed("reset")]], b=[["y"]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.gateway, outcome.tokens) == (Result.INTERRUPTED, "a", 1)
    assert outcome.error == "reset"
    assert tried == ["a"]


async def test_a_gateway_that_failed_is_passed_over_until_its_cool_down_is_over() -> None:
    clock = FakeClock()
    client, tried = client_of(clock, a=[[AttemptFailed("refused")], ["x"]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert tried == ["a", "b", "b"]
    clock.advance(COOL_DOWN_SECONDS)
    await client.send(REQUEST)
    assert tried[-1] == "a"


async def test_a_model_that_one_plane_lacks_is_asked_for_elsewhere_without_a_cool_down() -> None:
    missing = AttemptFailed("404", cool_down=False)
    client, tried = client_of(FakeClock(), a=[[missing]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert tried == ["a", "b", "a", "b"]


async def test_a_request_that_is_itself_wrong_is_not_tried_elsewhere() -> None:
    wrong = AttemptFailed("HTTP 400: max_tokens", elsewhere=False)
    client, tried = client_of(FakeClock(), a=[[wrong]], b=[["y"]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.attempts) == (Result.FAILED, 1)
    assert tried == ["a"]


async def test_when_every_gateway_fails_each_is_tried_twice_and_the_request_fails() -> None:
    clock = FakeClock()
    failing: list[Script] = [[AttemptFailed("refused")]]
    client, tried = client_of(clock, a=list(failing), b=list(failing))
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(client.send(REQUEST))
        await clock.run_for(5.0)
    outcome = sent.result()
    assert (outcome.result, outcome.attempts) == (Result.FAILED, 4)
    assert "no gateway gave an answer (a, b): refused" in outcome.error
    assert tried == ["a", "b", "a", "b"]


async def test_an_empty_answer_that_ended_well_is_an_answer() -> None:
    client, _ = client_of(FakeClock(), a=[[]])
    assert (await client.send(REQUEST)).result is Result.OK


def test_a_client_of_no_gateway_is_refused() -> None:
    clock = FakeClock()
    with pytest.raises(InvalidInput, match="--gateway"):
        InferenceClient((), ScriptedTransport(clock, {}), clock)


def test_cooling_gateways_come_last_but_they_come() -> None:
    order = order_gateways((A, B, C), 1, {"b": 20.0, "a": 5.0}, now=10.0)
    assert [g.name for g in order] == ["c", "a", "b"]
