"""No token is lost or told twice, wherever and however often a stream breaks."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from skerry.wire.continuation.dialects import DIALECTS, Dialect
from skerry.wire.continuation.generate import GenerateStream, refusal_of
from skerry.wire.continuation.openai_continuation import Close, GoOn, LookUp, continue_openai
from skerry.wire.continuation.openai_request import Api, read_request
from skerry.wire.continuation.refusals import Refusal
from workload_plane.relay.openai_stream import OpenAiStream
from workload_plane.relay.sse import BlockSplitter
from workload_plane.replica_host import llamacpp_dialect
from workload_plane.replica_host.sse import EventSplitter
from workload_plane.replica_host.translate import ResponseStream
from workload_plane.simulated import apis, encoding
from workload_plane.simulated.answers import WORDS, answer

SIMULATED = DIALECTS["simulated"]
ROOM = 512
_API = {Api.CHAT: apis.Api.CHAT, Api.TEXT: apis.Api.TEXT}
_attempts = iter(range(1, 1_000_000_000))


def engine_events(api: Api, body: bytes) -> list[bytes]:
    """Return the events with which a simulated engine answers, each with its blank line."""
    values = apis.parse_body(_API[api], body, "m")
    number = next(_attempts)
    question = apis.parse_question(_API[api], values, number)
    result = answer(question, room=ROOM - question.prompt_tokens)
    envelope = encoding.Envelope(
        api=_API[api],
        id=f"sim-{number}",
        created=1_000 + number,
        model="m",
        prompt_tokens=question.prompt_tokens,
    )
    encoder = encoding.stream_encoder(
        envelope, result, usage=apis.wants_usage(values), counts=apis.wants_counts(values)
    )
    whole = encoder.opening() + encoder.tokens(0, len(result.words)) + encoder.closing(0)
    return BlockSplitter().feed(whole)


def relayed(
    api: Api, body: bytes, cuts: list[int], dialect: Dialect = SIMULATED
) -> tuple[list[Any], Refusal | None]:
    """Return what a client sees when attempt N breaks after `cuts[N]` events."""
    request = read_request(api, body, dialect)
    stream = OpenAiStream(request)
    sent, ask, breaks = b"", request.sent_body, iter(cuts)
    while True:
        cut = next(breaks, None)
        for block in engine_events(api, ask)[:cut]:
            sent += stream.feed(block)
        if stream.is_closed:
            break
        step = continue_openai(request, stream.told, dialect)
        if isinstance(step, Refusal):
            return parsed(sent), step
        if isinstance(step, Close):
            sent += stream.close()
            break
        stream.begin_again(silent=isinstance(step, LookUp))
        ask = step.body
    return parsed(sent), None


def parsed(data: bytes) -> list[Any]:
    lines = [block[6:] for block in data.decode().split("\n\n") if block]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def same(events: list[Any]) -> list[Any]:
    """Return the events without what two streams never share: their id and their time."""
    ids = {(e["id"], e["created"]) for e in events if e != "[DONE]"}
    assert len(ids) == 1, ids
    return [e if e == "[DONE]" else {**e, "id": "", "created": 0} for e in events]


def said(api: Api, events: list[Any]) -> str:
    choices = [e["choices"][0] for e in events if e != "[DONE]" and e["choices"]]
    texts = (c["delta"].get("content") if api is Api.CHAT else c["text"] for c in choices)
    return "".join(text or "" for text in texts)


def endings(events: list[Any]) -> list[Any]:
    """Return the events from the one that says why the answer ended."""
    reasons = [e != "[DONE]" and e["choices"] and e["choices"][0]["finish_reason"] for e in events]
    return same(events)[reasons.index(next(filter(None, reasons))) :]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Api, bytes]:
    api = draw(st.sampled_from(list(Api)))
    values: dict[str, Any] = {"model": "m", "stream": True, "temperature": 0}
    text = draw(st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable()))
    if api is Api.CHAT:
        values["messages"] = [{"role": "user", "content": text}]
    else:
        values["prompt"] = text
    if draw(st.booleans()):
        values["stream_options"] = {"include_usage": True}
    if draw(st.booleans()):
        values["max_tokens"] = draw(st.integers(1, 40))
    if draw(st.booleans()):
        values["stop"] = draw(
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)
            | st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)).map(
                lambda pair: [f"{pair[0]} {pair[1]}"]
            )
        )
    return api, json.dumps(values).encode()


@settings(deadline=None)
@given(requests(), st.lists(st.integers(0, 70), max_size=4))
def test_a_client_sees_one_stream_wherever_it_breaks(
    request: tuple[Api, bytes], cuts: list[int]
) -> None:
    api, body = request
    whole, _ = relayed(api, body, [])
    broken, refusal = relayed(api, body, cuts)
    assert refusal is None
    hidden = hidden_tokens(api, whole)
    if hidden:
        # What was generated to meet a stop text, and not shown, is in no event but the usage: of a
        # stream that broke in front of it, those that were told are counted, and no others.
        take_hidden(broken, whole, hidden)
    assert same(broken) == same(whole)


def test_a_usage_lost_behind_a_stop_text_counts_what_was_told() -> None:
    values = {"model": "m", "stream": True, "temperature": 0, "stop": ["anchor"]}
    values |= {"stream_options": {"include_usage": True}}
    body = json.dumps(values | {"messages": [{"role": "user", "content": "f\xe9"}]}).encode()
    whole, _ = relayed(Api.CHAT, body, [])
    broken, _ = relayed(Api.CHAT, body, [last_told(whole) + 1])
    assert hidden_tokens(Api.CHAT, whole) == 1
    assert broken[-2]["usage"]["completion_tokens"] == len(said(Api.CHAT, broken).split())
    assert broken[-2]["usage"]["prompt_tokens"] == whole[-2]["usage"]["prompt_tokens"]


def last_told(events: list[Any]) -> int:
    """Return the number of the event that says why the answer ended."""
    ends = (e != "[DONE]" and e["choices"] and e["choices"][0]["finish_reason"] for e in events)
    return next(number for number, reason in enumerate(ends) if reason)


def hidden_tokens(api: Api, events: list[Any]) -> int:
    """Return how many tokens a stream's usage counts that no event shows."""
    usages = [e["usage"] for e in events if e != "[DONE]" and e.get("usage")]
    shown = sum(bool(said(api, [event])) for event in events)
    return usages[-1]["completion_tokens"] - shown if usages else 0


def take_hidden(broken: list[Any], whole: list[Any], hidden: int) -> None:
    """Let the counts of a broken stream be those of the whole one without its hidden tokens."""
    told, true = broken[-2]["usage"], whole[-2]["usage"]
    if told["completion_tokens"] == true["completion_tokens"] - hidden:
        told["completion_tokens"] += hidden
        told["total_tokens"] += hidden


def test_counts_that_only_the_relay_asked_for_change_nothing_for_the_client() -> None:
    counting = replace(SIMULATED, counts_in_chunks=True)
    for api in Api:
        for options in ({}, {"stream_options": {"include_usage": True}}):
            asked = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
            asked.pop("prompt" if api is Api.CHAT else "messages")
            body = json.dumps({"model": "m", "temperature": 0, **options, **asked}).encode()
            whole, _ = relayed(api, body, [])
            for cut in range(len(whole)):
                again, refusal = relayed(api, body, [cut], counting)
                assert refusal is None
                assert uncached(same(again)) == uncached(same(whole)), (api, options, cut)


def uncached(events: list[Any]) -> list[Any]:
    """Return the events without what a chunk's counts do not tell."""
    for event in events:
        if event != "[DONE]" and event.get("usage"):
            event["usage"].pop("prompt_tokens_details", None)
    return events


def test_every_cut_of_every_kind_of_stream_is_continued() -> None:
    for api in Api:
        for options in ({}, {"stream_options": {"include_usage": True}}):
            for limit in ({}, {"max_tokens": 7}):
                asked = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
                asked.pop("prompt" if api is Api.CHAT else "messages")
                values = {"model": "m", "stream": True, "temperature": 0, **options, **limit}
                body = json.dumps(values | asked).encode()
                whole, _ = relayed(api, body, [])
                for cut in range(len(whole)):
                    again, refusal = relayed(api, body, [cut])
                    assert refusal is None, (api, options, limit, cut)
                    assert same(again) == same(whole), (api, options, limit, cut)


@settings(deadline=None)
@given(requests(), st.integers(0, 70))
def test_the_next_request_asks_for_no_token_that_was_told(
    request: tuple[Api, bytes], cut: int
) -> None:
    api, body = request
    read = read_request(api, body, SIMULATED)
    stream = OpenAiStream(read)
    for block in engine_events(api, read.sent_body)[:cut]:
        stream.feed(block)
    step = continue_openai(read, stream.told, SIMULATED)
    if isinstance(step, GoOn) and read.tokens_max is not None:
        assert json.loads(step.body)["max_tokens"] == read.tokens_max - stream.tokens


# Each example is every cut of one stream.
@settings(deadline=None, max_examples=30)
@given(st.sampled_from(list(Api)), st.integers(0, 30), st.integers(2, 4), st.booleans())
def test_a_stop_text_that_spans_the_seam_still_stops(
    api: Api, first: int, words: int, wants_usage: bool
) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
    asked.pop("prompt" if api is Api.CHAT else "messages")
    values = {"model": "m", "stream": True, "temperature": 0, "ignore_eos": True, **asked}
    values |= {"stream_options": {"include_usage": True}} if wants_usage else {}
    question = apis.parse_question(_API[api], values, 1)
    told = answer(question, room=64)
    stop = "".join(f" {WORDS[number]}" for number in told.words[first : first + words])
    body = json.dumps(values | {"stop": [stop]}).encode()
    whole, _ = relayed(api, body, [])
    ending = next(n for n, e in enumerate(whole) if e["choices"][0]["finish_reason"])
    for cut in range(len(whole)):
        if wants_usage and cut > ending:
            continue  # what was generated to meet a stop is in no event but the usage, lost here
        again, refusal = relayed(api, body, [cut])
        assert refusal is None
        # This engine shows the words of a stop text but the last. What comes behind a seam is held
        # back until it is sure, so the client may see fewer of them, and never another word.
        assert said(api, whole).startswith(said(api, again))
        assert stop not in said(api, again)
        assert endings(again) == endings(whole)


def generated(request: generation_pb2.GenerateRequest) -> list[generation_pb2.GenerateResponse]:
    """Return the responses with which a replica host of a simulated engine answers."""
    values = dict(llamacpp_dialect.body(request, "m"))
    number = next(_attempts)
    question = apis.parse_question(apis.Api.NATIVE, values, number)
    result = answer(question, room=ROOM - question.prompt_tokens)
    envelope = encoding.Envelope(
        api=apis.Api.NATIVE,
        id="",
        created=0,
        model="m",
        prompt_tokens=question.prompt_tokens,
    )
    encoder = encoding.stream_encoder(envelope, result, usage=True)
    data = encoder.tokens(0, len(result.words)) + encoder.closing(0)
    reader = llamacpp_dialect.reader(request)
    stream = ResponseStream(request_id=request.request_id or f"r-{number}", outputs=1)
    return [
        response
        for event in EventSplitter().feed(data)
        for response in stream.feed(reader.read(event))
    ]


def relayed_generate(
    request: generation_pb2.GenerateRequest, cuts: list[int], *, told_by_error: bool = False
) -> list[generation_pb2.GenerateResponse]:
    """Return what a client sees when attempt N breaks after `cuts[N]` responses."""
    stream = GenerateStream(request, SIMULATED, refusal_of(request))
    sent: list[generation_pb2.GenerateResponse] = []
    ask, breaks = request, iter(cuts)
    while True:
        cut = next(breaks, None)
        responses = generated(ask)[:cut]
        if cut is not None and told_by_error:
            lost = error_pb2.EngineError(code=error_pb2.ERROR_CODE_INTERNAL, retryable=True)
            responses.append(generation_pb2.GenerateResponse(error=lost))
        for response in responses:
            sent += stream.feed(response)
        if stream.is_closed:
            return sent
        step = stream.next()
        assert not isinstance(step, Refusal), step
        if isinstance(step, Close):
            return sent + stream.close()
        stream.begin_again(silent=isinstance(step, LookUp))
        body = step.body if isinstance(step, LookUp) else step.SerializeToString()
        ask = generation_pb2.GenerateRequest.FromString(body)


@st.composite
def generate_requests(draw: st.DrawFn) -> generation_pb2.GenerateRequest:
    request = generation_pb2.GenerateRequest(request_id=draw(st.sampled_from(("", "mine"))))
    if draw(st.booleans()):
        request.prompt = draw(st.text("abc ", min_size=1, max_size=9))
    else:
        request.token_ids.ids.extend(draw(st.lists(st.integers(60, 999), min_size=1, max_size=9)))
    request.sampling.temperature = 0
    if draw(st.booleans()):
        request.stopping.max_tokens = draw(st.integers(1, 40))
    if draw(st.booleans()):
        request.stopping.conditions.add(stop_text=draw(st.sampled_from(WORDS)))
    return request


@settings(deadline=None)
@given(generate_requests(), st.lists(st.integers(0, 70), max_size=3), st.booleans())
def test_a_generate_client_sees_one_stream_wherever_it_breaks(
    request: generation_pb2.GenerateRequest, cuts: list[int], told_by_error: bool
) -> None:
    whole = relayed_generate(request, [])
    broken = relayed_generate(request, cuts, told_by_error=told_by_error)
    assert len({response.request_id for response in broken}) == 1
    assert [response.HasField("usage") for response in broken[:-1]] == [False] * (len(broken) - 1)
    for responses in (whole, broken):
        for response in responses:
            response.request_id = ""
            response.usage.ClearField("cached_prompt_tokens")  # unknown where no engine said it
    assert broken == whole
