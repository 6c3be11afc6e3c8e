"""The client of several gateways: nearest first, on before the first token, continued after it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from skerry.client.delivery import CONTINUATIONS_MAX, RESETS_MAX, Interrupted
from skerry.client.distance import COOL_DOWN_SECONDS
from skerry.client.gateways import (
    AttemptFailed,
    Begun,
    Cause,
    Emitted,
    End,
    Gateway,
    Head,
    Item,
    Items,
    Message,
    Piece,
    Request,
    RequestKind,
    Result,
    parse_gateway,
)
from skerry.client.inference import InferenceClient
from skerry.plumbing.errors import (
    DeadlineExceeded,
    Denied,
    Exhausted,
    InvalidInput,
    NotFound,
    SkerryError,
    Unauthenticated,
    Unavailable,
)
from skerry.plumbing.ids import SystemIds
from tests.fakes.clock import FakeClock

A, B, C = (Gateway(name=n, http=f"{n}:1", grpc=f"{n}:1") for n in ("a", "b", "c"))
REQUEST = Request(kind=RequestKind.CHAT_STREAM, model="m", prompt="p")
MAY_GO_ON = Head(plane="p1", continuation="vllm")
HANGS = "(nothing more comes)"

Script = Sequence[str | Exception | Head | Begun | End]


class ScriptedTransport:
    """Plays one script per gateway and attempt; the last one repeats."""

    def __init__(self, clock: FakeClock, scripts: dict[str, list[Script]]) -> None:
        self.clock = clock
        self.scripts = scripts
        self.tried: list[str] = []
        self.ids: list[str] = []
        self.emitted: list[Emitted | None] = []
        self.closed: list[str] = []
        self.seconds: dict[str, float] = {}

    async def attempt(
        self, gateway: Gateway, request: Request, request_id: str, emitted: Emitted | None = None
    ) -> Items:
        self.tried.append(gateway.name)
        self.ids.append(request_id)
        self.emitted.append(emitted)
        scripts = self.scripts[gateway.name]
        try:
            for step in scripts.pop(0) if len(scripts) > 1 else scripts[0]:
                yield await self._play(step)
            yield End(finish_reason="stop")
        finally:
            self.closed.append(gateway.name)

    async def _play(self, step: str | Exception | Head | Begun | End) -> Item:
        if isinstance(step, Exception):
            raise step
        if step == HANGS:
            await asyncio.get_running_loop().create_future()
        if isinstance(step, str):
            self.clock.advance(0.5)
            return Piece(step)
        return step

    async def probe(self, gateway: Gateway) -> float:
        if gateway.name not in self.seconds:
            raise AttemptFailed("refused", Cause.CONNECT)
        return self.seconds[gateway.name]


def client_of(
    clock: FakeClock, **scripts: list[Script]
) -> tuple[InferenceClient, ScriptedTransport]:
    """Return a client of the gateways named, and the transport that it uses."""
    transport = ScriptedTransport(clock, dict(scripts))
    gateways = [g for g in (A, B, C) if g.name in scripts]
    return InferenceClient(gateways, transport, clock, SystemIds(clock)), transport


async def read(client: InferenceClient, deadline_seconds: float = 600.0) -> str:
    """Ask and return the whole text."""
    async with client.ask(REQUEST, deadline_seconds=deadline_seconds) as answer:
        return "".join([text async for text in answer])


async def test_the_preferred_gateway_answers() -> None:
    client, transport = client_of(FakeClock(), a=[["x"]], b=[["y", "z"]])
    outcome = await client.send(REQUEST, preferred=1)
    assert (outcome.result, outcome.gateway, outcome.attempts) == (Result.OK, "b", 1)
    assert (outcome.ttft_seconds, outcome.tokens) == (0.5, 2)
    assert outcome.itl_seconds == (0.5,)
    assert outcome.end.finish_reason == "stop"
    assert transport.tried == ["b"]


async def test_the_nearest_gateway_answers_once_it_was_measured() -> None:
    client, transport = client_of(FakeClock(), a=[["x"]], b=[["y"]], c=[["z"]])
    transport.seconds = {"a": 0.08, "b": 0.002, "c": 0.04}
    await client._standing.measure()
    assert client.nearest is B
    await client.send(REQUEST)
    assert transport.tried == ["b"]


async def test_a_gateway_that_is_only_a_little_nearer_takes_over_nothing() -> None:
    client, transport = client_of(FakeClock(), a=[["x"]], b=[["y"]])
    transport.seconds = {"a": 0.020, "b": 0.021}
    await client._standing.measure()
    await client.send(REQUEST)
    transport.seconds = {"a": 0.022, "b": 0.018}
    await client._standing.measure()
    await client.send(REQUEST)
    assert transport.tried == ["a", "a"]


async def test_the_nearest_gateway_that_died_hands_over_to_the_next_nearest() -> None:
    client, transport = client_of(FakeClock(), a=[["x"]], b=[[AttemptFailed("no")]], c=[["z"]])
    transport.seconds = {"a": 0.08, "b": 0.002, "c": 0.04}
    await client._standing.measure()
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert transport.tried == ["b", "c", "c"]


async def test_before_the_first_token_the_next_gateway_is_tried() -> None:
    client, transport = client_of(FakeClock(), a=[[Head(), AttemptFailed("refused")]], b=[["y"]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.gateway, outcome.attempts) == (Result.OK, "b", 2)
    assert transport.tried == ["a", "b"]
    # The engine that may still hold the first attempt must not take the second for its double.
    assert transport.ids == [outcome.request_id, f"{outcome.request_id}-2"]


async def test_after_the_first_token_a_break_is_told_and_not_sent_again() -> None:
    broken = AttemptFailed("reset", Cause.RESET)
    client, transport = client_of(FakeClock(), a=[["x", broken]], b=[["y"]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.gateway, outcome.tokens) == (Result.INTERRUPTED, "a", 1)
    assert (outcome.error, outcome.cause) == ("reset", Cause.RESET)
    assert transport.tried == ["a"]


async def test_where_the_deployment_allows_it_another_gateway_goes_on_after_a_break() -> None:
    broken = AttemptFailed("reset", Cause.RESET)
    client, transport = client_of(FakeClock(), a=[[MAY_GO_ON, "On", "ce", broken]], b=[[" upon"]])
    async with client.ask(REQUEST) as answer:
        text = "".join([piece async for piece in answer])
    assert text == "Once upon"
    assert (answer.gateway, answer.attempts, answer.continued, answer.tokens) == ("b", 2, 1, 3)
    assert transport.tried == ["a", "b"]
    assert transport.emitted[1] == Emitted(dialect="vllm", text="Once", tokens=2)


async def test_the_counts_of_a_continued_answer_are_of_the_whole() -> None:
    broken = AttemptFailed("reset", Cause.RESET)
    rest: Script = ["y", End(finish_reason="stop", prompt_tokens=12, output_tokens=1)]
    client, _ = client_of(FakeClock(), a=[[MAY_GO_ON, "x", "x", broken]], b=[rest])
    end = (await client.send(REQUEST)).end
    assert (end.prompt_tokens, end.output_tokens) == (10, 3)


async def test_with_one_gateway_the_same_one_goes_on() -> None:
    broken = AttemptFailed("reset", Cause.RESET)
    client, transport = client_of(FakeClock(), a=[[MAY_GO_ON, "x", broken], ["y"]])
    assert (await client.send(REQUEST)).result is Result.OK
    assert transport.tried == ["a", "a"]


async def test_an_answer_that_breaks_again_and_again_is_given_up() -> None:
    broken = AttemptFailed("reset", Cause.RESET)
    client, _ = client_of(FakeClock(), a=[[MAY_GO_ON, "x", broken]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.continued) == (Result.INTERRUPTED, CONTINUATIONS_MAX)
    assert outcome.tokens == CONTINUATIONS_MAX + 1


async def test_when_nobody_goes_on_the_break_is_told_with_its_cause() -> None:
    broken = AttemptFailed("reset", Cause.RESET)
    refused = AttemptFailed("guided decoding", Cause.CONTINUATION, elsewhere=False)
    client, _ = client_of(FakeClock(), a=[[MAY_GO_ON, "x", broken]], b=[[refused]])
    with pytest.raises(Interrupted, match="reset; going on elsewhere than a: guided") as raised:
        await read(client)
    assert raised.value.hints["cause"] == "continuation"


async def test_a_gateway_that_failed_is_passed_over_until_its_cool_down_is_over() -> None:
    clock = FakeClock()
    client, transport = client_of(clock, a=[[AttemptFailed("refused")], ["x"]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert transport.tried == ["a", "b", "b"]
    clock.advance(COOL_DOWN_SECONDS)
    await client.send(REQUEST, 0)
    assert transport.tried[-1] == "a"


async def test_a_model_that_one_plane_lacks_is_asked_for_elsewhere_without_a_cool_down() -> None:
    missing = AttemptFailed("404", Cause.NOT_FOUND, cool_down=False)
    client, transport = client_of(FakeClock(), a=[[missing]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert transport.tried == ["a", "b", "a", "b"]


@pytest.mark.parametrize("cause", [Cause.ENGINE, Cause.EXHAUSTED, Cause.UNAVAILABLE])
async def test_the_trouble_of_one_model_keeps_no_other_from_its_gateway(cause: Cause) -> None:
    clock = FakeClock()
    client, transport = client_of(clock, a=[[AttemptFailed("no", cause)], ["x"]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert transport.tried == ["a", "b", "b"]
    await client.send(replace(REQUEST, model="other"))
    assert transport.tried[3:] == ["a"]
    await client.send(REQUEST)
    assert transport.tried[4:] == ["b"]


async def test_a_gateway_that_is_not_there_is_passed_over_for_every_model() -> None:
    refused = AttemptFailed("refused", Cause.CONNECT)
    client, transport = client_of(FakeClock(), a=[[refused], ["x"]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(replace(REQUEST, model="other"))
    assert transport.tried == ["a", "b", "b"]


async def test_what_has_begun_beside_the_text_is_told_to_whoever_goes_on() -> None:
    begun = Begun(has_reasoning=True, has_tool_calls=True)
    first: Script = [MAY_GO_ON, begun, "x", AttemptFailed("reset", Cause.RESET)]
    client, transport = client_of(FakeClock(), a=[first], b=[["y"]])
    assert await read(client) == "xy"
    emitted = transport.emitted[-1]
    assert emitted is not None
    assert (emitted.has_reasoning, emitted.has_tool_calls) == (True, True)


async def test_a_conclusion_that_nobody_heard_counts_as_not_begun() -> None:
    first: Script = [MAY_GO_ON, Begun(has_reasoning=True), AttemptFailed("reset", Cause.RESET)]
    client, transport = client_of(FakeClock(), a=[first], b=[["y"]])
    assert await read(client) == "y"
    assert transport.emitted == [None, None]


RESIDENCY = AttemptFailed("HTTP 403: kept to eu", Cause.RESIDENCY, cool_down=False)


async def test_a_plane_outside_the_zones_is_left_for_one_inside_without_a_cool_down() -> None:
    client, transport = client_of(FakeClock(), a=[[RESIDENCY]], b=[["y"]])
    await client.send(REQUEST)
    await client.send(REQUEST)
    assert transport.tried == ["a", "b", "a", "b"]


async def test_that_one_plane_is_outside_the_zones_hides_no_trouble_inside_them() -> None:
    clock, busy = FakeClock(), AttemptFailed("HTTP 503", Cause.UNAVAILABLE)
    client, transport = client_of(clock, a=[[busy]], b=[[RESIDENCY]])
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(client.send(REQUEST))
        await clock.run_for(5.0)
    assert sent.result().cause is Cause.UNAVAILABLE
    assert sorted(transport.tried) == ["a", "a", "b", "b"]


async def test_where_no_plane_may_see_a_request_nobody_is_asked_twice() -> None:
    absent = AttemptFailed("HTTP 404", Cause.NOT_FOUND, cool_down=False)
    client, transport = client_of(FakeClock(), a=[[absent]], b=[[RESIDENCY]], c=[[absent]])
    outcome = await client.send(REQUEST)
    assert (outcome.cause, transport.tried) == (Cause.RESIDENCY, ["a", "b", "c"])


async def test_a_request_that_is_itself_wrong_is_not_tried_elsewhere() -> None:
    wrong = AttemptFailed("HTTP 400: max_tokens", Cause.REFUSED, elsewhere=False)
    client, transport = client_of(FakeClock(), a=[[wrong]], b=[["y"]])
    outcome = await client.send(REQUEST)
    assert (outcome.result, outcome.attempts) == (Result.FAILED, 1)
    assert transport.tried == ["a"]


async def test_a_request_that_breaks_every_engine_does_not_meet_all_of_them() -> None:
    poison: list[Script] = [[AttemptFailed("reset", Cause.RESET)]]
    client, transport = client_of(FakeClock(), a=list(poison), b=list(poison), c=list(poison))
    outcome = await client.send(REQUEST)
    assert outcome.result is Result.FAILED
    assert len(transport.tried) == RESETS_MAX


async def test_when_every_gateway_fails_each_is_tried_twice_and_the_request_fails() -> None:
    clock = FakeClock()
    failing: list[Script] = [[AttemptFailed("refused")]]
    client, transport = client_of(clock, a=list(failing), b=list(failing))
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(client.send(REQUEST))
        await clock.run_for(5.0)
    outcome = sent.result()
    assert (outcome.result, outcome.attempts) == (Result.FAILED, 4)
    assert "no gateway gave an answer (a, b): refused" in outcome.error
    assert transport.tried == ["a", "b", "a", "b"]


async def test_gateways_that_ask_for_a_pause_get_it() -> None:
    clock = FakeClock()
    busy = AttemptFailed("full", Cause.EXHAUSTED, retry_after_seconds=4.0)
    client, _ = client_of(clock, a=[[busy], ["x"]])
    async with asyncio.TaskGroup() as group:
        started = clock.monotonic()
        sent = group.create_task(client.send(REQUEST))
        await clock.run_for(10.0)
    assert sent.result().result is Result.OK
    assert sent.result().ttft_seconds == pytest.approx(4.5)
    assert clock.monotonic() - started >= 4.5


async def test_a_fleet_that_answers_nothing_is_soon_asked_but_once_for_each_request() -> None:
    clock = FakeClock()
    client, transport = client_of(clock, a=[[AttemptFailed("refused")]])
    async with asyncio.TaskGroup() as group:
        for _ in range(30):
            group.create_task(client.send(REQUEST))
        await clock.run_for(60.0)
    assert len(transport.tried) == 30 + 10  # a budget of ten rounds more


@pytest.mark.parametrize(
    ("cause", "kind", "elsewhere"),
    [
        (Cause.REFUSED, InvalidInput, False),
        (Cause.UNAUTHENTICATED, Unauthenticated, False),
        (Cause.DENIED, Denied, False),
        (Cause.NOT_FOUND, NotFound, True),
        (Cause.RESIDENCY, Denied, True),
        (Cause.EXHAUSTED, Exhausted, True),
        (Cause.CONNECT, Unavailable, True),
    ],
)
async def test_every_cause_is_an_error_of_its_kind(
    cause: Cause, kind: type[SkerryError], elsewhere: bool
) -> None:
    failure = AttemptFailed("so it is", cause, elsewhere=elsewhere, retry_after_seconds=30.0)
    client, _ = client_of(FakeClock(), a=[[failure]])
    with pytest.raises(kind, match="so it is") as raised:
        async with client.ask(REQUEST):
            pass
    assert raised.value.hints["cause"] == cause
    assert raised.value.retry_after_seconds == 30.0


async def test_leaving_the_block_ends_what_is_still_being_generated() -> None:
    client, transport = client_of(FakeClock(), a=[["x", HANGS]])
    async with client.ask(REQUEST) as answer:
        async for _ in answer:
            break
    assert transport.closed == ["a"]


async def test_a_request_ends_at_its_deadline() -> None:
    client, transport = client_of(FakeClock(), a=[["x", HANGS]], b=[["y"]])
    with pytest.raises(Interrupted, match="not done within"):
        await read(client, deadline_seconds=0.01)
    assert transport.tried == ["a"]
    client, _ = client_of(FakeClock(), a=[[HANGS]])
    with pytest.raises(DeadlineExceeded):
        async with client.ask(REQUEST, deadline_seconds=0.01):
            pass


async def test_a_first_token_that_is_later_than_the_caller_allows_is_asked_for_elsewhere() -> None:
    client, transport = client_of(FakeClock(), a=[[HANGS]], b=[["y"]])
    async with client.ask(REQUEST, first_token_seconds_max=0.01) as answer:
        assert [text async for text in answer] == ["y"]
    assert transport.tried == ["a", "b"]


async def test_a_long_prefill_is_not_cut_while_the_gateway_lives() -> None:
    clock = FakeClock()
    client, transport = client_of(clock, a=[[HANGS]], b=[["y"]])
    transport.seconds = {"a": 0.01}
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(client.keep_watch())
        sent = group.create_task(client.send(REQUEST, deadline_seconds=1_000.0))
        await clock.run_for(300.0)
        assert transport.tried == ["a"]
        watch.cancel()
        sent.cancel()


async def test_a_gateway_that_hangs_is_left_for_another_before_the_first_token() -> None:
    clock = FakeClock()
    client, transport = client_of(clock, a=[[HANGS]], b=[["y"]])
    transport.seconds = {"b": 0.01}
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(client.keep_watch())
        sent = group.create_task(client.send(REQUEST, deadline_seconds=1_000.0))
        await clock.run_for(5.0)
        outcome = await sent
        watch.cancel()
    assert (outcome.result, outcome.gateway) == (Result.OK, "b")


async def test_an_empty_answer_that_ended_well_is_an_answer() -> None:
    client, _ = client_of(FakeClock(), a=[[]])
    assert (await client.send(REQUEST)).result is Result.OK


def test_a_client_of_no_gateway_is_refused() -> None:
    clock = FakeClock()
    with pytest.raises(InvalidInput, match="--gateway"):
        InferenceClient((), ScriptedTransport(clock, {}), clock, SystemIds(clock))


def test_a_gateway_is_named_by_its_address_or_by_a_name() -> None:
    assert parse_gateway("h:80") == Gateway(name="h:80", http="h:80", grpc="h:80")
    assert parse_gateway("eu=h:80").name == "eu"
    for text in ("h", "h:", ":80", "h:0", "h:99999", "h:x"):
        with pytest.raises(InvalidInput, match="HOST:PORT"):
            parse_gateway(text)


def test_messages_are_for_chat_only() -> None:
    message = Message(role="user", content="hi")
    with pytest.raises(ValueError, match="no messages"):
        Request(kind=RequestKind.GENERATE, model="m", messages=(message,))
