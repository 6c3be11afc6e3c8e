"""Between `openengine.v1` and the engines' HTTP: nothing is lost, invented or let through."""

import asyncio
import json
from typing import Any

import grpc
import pytest

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from workload_plane.replica_host import llamacpp_dialect, openai_dialect
from workload_plane.replica_host.deltas import (
    Counted,
    Delta,
    Done,
    Ended,
    EngineSaid,
    Failed,
    TokenPiece,
)
from workload_plane.replica_host.faults import RequestFault, status_code
from workload_plane.replica_host.in_flight import Aborted, Flight, Flights
from workload_plane.replica_host.sampling import check_request
from workload_plane.replica_host.translate import ResponseStream

LENGTH = generation_pb2.FINISH_REASON_LENGTH
STOP = generation_pb2.FINISH_REASON_STOP
CANCELLED = generation_pb2.FINISH_REASON_CANCELLED
COUNTED = Counted(prompt_tokens=3, completion_tokens=2, cached_prompt_tokens=1)


def a_request(**fields: Any) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(**({"model": "m", "prompt": "hi"} | fields))


def stopping(**fields: Any) -> generation_pb2.StoppingOptions:
    return generation_pb2.StoppingOptions(**fields)


def a_token(number: int, text: str, index: int = 0) -> Delta:
    return Delta(output_index=index, text=text, tokens=(TokenPiece(id=number),))


def checked(request: generation_pb2.GenerateRequest) -> RequestFault | None:
    try:
        check_request(request, served_name="m", sequences_max=4)
        llamacpp_dialect.check(request)
    except RequestFault as fault:
        return fault
    return None


def events_of(stream: ResponseStream, *said: EngineSaid) -> list[str | None]:
    return [response.WhichOneof("event") for response in stream.feed(said)]


def test_the_path_of_the_weights_is_another_name_of_the_model() -> None:
    terms: Any = {"served_name": "m", "sequences_max": 4, "aliases": ("/models/m",)}
    check_request(a_request(model="/models/m"), **terms)
    with pytest.raises(RequestFault, match="served is 'm'"):
        check_request(a_request(model="/models/n"), **terms)


def test_plain_request_passes_and_empty_model_means_the_only_one() -> None:
    assert checked(a_request()) is None
    assert checked(a_request(model="")) is None


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"model": "x"}, error_pb2.ERROR_CODE_MODEL_NOT_FOUND, "served is 'm'"),
        ({"prompt": ""}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "prompt"),
        ({"sampling": {"temperature": -1}}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "temperature"),
        ({"sampling": {"top_p": float("nan")}}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "top_p"),
        ({"sampling": {"num_sequences": 5}}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "1..4"),
        ({"sampling": {"seed": 2**40}}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "seed"),
        ({"stopping": {"max_tokens": 0}}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "max_tokens"),
        ({"stopping": {"min_tokens": 2}}, error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE, "min_tokens"),
        (
            {"stopping": {"conditions": [{"stop_token_id": 2}]}, "sampling": {"num_sequences": 2}},
            error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE,
            "stop_token_id",
        ),
        (
            {"stopping": {"conditions": [{}]}},
            error_pb2.ERROR_CODE_INVALID_ARGUMENT,
            "conditions[0]",
        ),
        ({"lora_name": "l"}, error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE, "lora_name"),
        ({"media": [{"url": "u"}]}, error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE, "media"),
        ({"kv": {"session": {}}}, error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE, "kv.session"),
        ({"kv": {"cache_salt": "s"}}, error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE, "kv.cache_salt"),
        ({"guided": {"regex": "a*"}}, error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE, "guided.regex"),
        ({"guided": {"json_schema": "{"}}, error_pb2.ERROR_CODE_INVALID_ARGUMENT, "json_schema"),
        (
            {"response": {"return_prompt_logprobs": True}},
            error_pb2.ERROR_CODE_UNSUPPORTED_FEATURE,
            "return_prompt_logprobs",
        ),
    ],
)
def test_request_that_cannot_be_honoured_names_its_field(
    fields: dict[str, Any], code: error_pb2.ErrorCode, words: str
) -> None:
    fault = checked(a_request(**fields))
    assert fault is not None
    assert fault.code == code
    assert words in fault.message


def test_each_code_travels_as_its_status() -> None:
    def status(code: error_pb2.ErrorCode, *, retryable: bool = False) -> grpc.StatusCode:
        return status_code(RequestFault(code=code, message="", retryable=retryable))

    assert status(error_pb2.ERROR_CODE_OVERLOADED) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status(error_pb2.ERROR_CODE_DRAINING) is grpc.StatusCode.UNAVAILABLE
    assert status(error_pb2.ERROR_CODE_INTERNAL) is grpc.StatusCode.INTERNAL
    assert status(error_pb2.ERROR_CODE_INTERNAL, retryable=True) is grpc.StatusCode.UNAVAILABLE


def test_llamacpp_body_has_its_own_names_and_only_what_was_set() -> None:
    request = a_request(
        sampling={"temperature": 0, "repetition_penalty": 1.5, "seed": 7, "num_sequences": 2},
        stopping={"max_tokens": 5, "conditions": [{"stop_text": "END"}]},
        response={"return_output_logprobs": True, "output_candidates": {"top_n": 3}},
        kv={"bypass_prefix_cache": True},
        guided={"choice": {"choices": ["yes", 'say "no"']}},
    )
    assert llamacpp_dialect.body(request, "m") == {
        "model": "m",
        "prompt": "hi",
        "stream": True,
        "return_tokens": True,
        "temperature": 0,
        "repeat_penalty": 1.5,
        "seed": 7,
        "n_cmpl": 2,
        "n_predict": 5,
        "stop": ["END"],
        "n_probs": 3,
        "cache_prompt": False,
        "grammar": 'root ::= "yes" | "say \\"no\\""',
    }


def test_openai_body_asks_for_the_usage_and_takes_token_ids() -> None:
    request = generation_pb2.GenerateRequest(
        token_ids=generation_pb2.TokenIds(ids=[1, 2]),
        stopping=stopping(max_tokens=5, conditions=[{"stop_token_id": 2}]),
    )
    openai_dialect.check(request)
    assert openai_dialect.body(request, "m") == {
        "model": "m",
        "prompt": [1, 2],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "stop_token_ids": [2],
    }


def native(**fields: Any) -> bytes:
    return json.dumps({"index": 0, "stop": False, "tokens_evaluated": 3, **fields}).encode()


def test_llamacpp_stream_is_read_with_token_ids_and_counts() -> None:
    reader = llamacpp_dialect.reader(a_request())
    first = reader.read(native(content="Sea", tokens=[9], tokens_predicted=1))
    assert first == [a_token(9, "Sea")]
    last = native(content="", tokens=[], stop=True, stop_type="limit", tokens_predicted=1)
    assert reader.read(last) == [
        Ended(output_index=0, reason=LENGTH),
        Counted(prompt_tokens=3, completion_tokens=1, cached_prompt_tokens=0),
        Done(),
    ]


def test_llamacpp_token_without_its_id_is_counted_as_missing() -> None:
    reader = llamacpp_dialect.reader(a_request())
    reader.read(native(content="a", tokens=[9], tokens_predicted=1))
    (delta,) = reader.read(native(content="ѓ", tokens=[147], tokens_predicted=3))
    assert isinstance(delta, Delta)
    assert delta.tokens_missing == 1


def test_llamacpp_stream_is_left_at_a_stop_token() -> None:
    reader = llamacpp_dialect.reader(a_request(stopping={"conditions": [{"stop_token_id": 7}]}))
    assert reader.read(native(content="a", tokens=[9], tokens_predicted=1)) == [a_token(9, "a")]
    said = reader.read(native(content="b", tokens=[7], tokens_predicted=2))
    stream = ResponseStream(request_id="a", outputs=1)
    (last,) = stream.feed(said)
    assert last.finished.stop_match.stop_token_id == 7
    assert last.usage.completion_tokens == 2


def test_llamacpp_tokens_of_a_stream_cut_short_are_counted() -> None:
    reader = llamacpp_dialect.reader(a_request())
    assert reader.counted_so_far() is None
    reader.read(native(content="a", tokens=[9], tokens_predicted=1))
    assert reader.counted_so_far() == Counted(
        prompt_tokens=3, completion_tokens=1, cached_prompt_tokens=0
    )


def test_llamacpp_candidates_are_given_only_as_many_as_wanted() -> None:
    wanted = {"return_output_logprobs": True, "output_candidates": {"top_n": 1}}
    reader = llamacpp_dialect.reader(a_request(response=wanted))
    about = {"id": 9, "token": "Sea", "logprob": -0.5}
    entry = about | {"top_logprobs": [about, {"id": 4, "token": "x", "logprob": -2.0}]}
    (delta,) = reader.read(
        native(content="Sea", tokens=[9], tokens_predicted=1, completion_probabilities=[entry])
    )
    assert isinstance(delta, Delta)
    assert delta.tokens == (
        TokenPiece(
            id=9,
            text="Sea",
            logprob=-0.5,
            candidates=(TokenPiece(id=9, text="Sea", logprob=-0.5),),
        ),
    )


def test_engine_error_in_a_stream_is_a_failure_retryable_unless_the_request_is_wrong() -> None:
    reader = llamacpp_dialect.reader(a_request())
    error = {"code": 500, "message": "boom"}
    assert reader.read(json.dumps({"error": error}).encode()) == [
        Failed(message="boom", retryable=True)
    ]
    wrong = json.dumps({"error": error | {"code": 400}}).encode()
    assert reader.read(wrong) == [Failed(message="boom", retryable=False)]


def test_openai_stream_is_read_to_its_done() -> None:
    reader = openai_dialect.reader(a_request())
    chunk = {"choices": [{"index": 1, "text": "Sea", "finish_reason": None}]}
    assert reader.read(json.dumps(chunk).encode()) == [Delta(output_index=1, text="Sea")]
    chunk = {"choices": [{"index": 1, "text": "", "finish_reason": "stop", "stop_reason": "END"}]}
    assert reader.read(json.dumps(chunk).encode()) == [
        Ended(output_index=1, reason=STOP, stop_text="END")
    ]
    details = {"prompt_tokens_details": {"cached_tokens": 1}}
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, **details}}
    assert reader.read(json.dumps(usage).encode()) == [COUNTED]
    assert reader.read(b"[DONE]") == [Done()]


def test_usage_is_on_the_last_response_only() -> None:
    stream = ResponseStream(request_id="a", outputs=1)
    assert events_of(stream, a_token(1, "x")) == ["token"]
    assert events_of(stream, Ended(output_index=0, reason=LENGTH)) == []
    (last,) = stream.feed([COUNTED, Done()])
    assert last.finished.reason == LENGTH
    assert (last.usage.prompt_tokens, last.usage.total_tokens) == (3, 5)
    assert stream.finished
    assert stream.feed([a_token(2, "late")]) == []


def test_deltas_that_come_together_go_out_together_for_one_output() -> None:
    stream = ResponseStream(request_id="a", outputs=2)
    one, two = stream.feed([a_token(1, "x"), a_token(2, "y"), a_token(3, "z", index=1)])
    assert (one.token.text, [t.token_id for t in one.token.tokens]) == ("xy", [1, 2])
    assert two.token.output_index == 1
    assert one.token.HasField("output_index")


def test_every_output_ends_once_and_the_last_carries_the_usage() -> None:
    stream = ResponseStream(request_id="a", outputs=2)
    ends = [Ended(output_index=1, reason=STOP), Ended(output_index=1, reason=STOP)]
    (first,) = stream.feed(ends)
    assert not first.HasField("usage")
    (last,) = stream.feed([Ended(output_index=0, reason=LENGTH), COUNTED, Done()])
    assert (last.finished.output_index, last.HasField("usage")) == (0, True)


def test_failure_is_terminal_and_keeps_the_code() -> None:
    stream = ResponseStream(request_id="a", outputs=1)
    (response,) = stream.feed([Failed(message="boom", retryable=True), a_token(1, "x")])
    assert response.error.code == error_pb2.ERROR_CODE_INTERNAL
    assert response.error.retryable


def test_stream_that_ends_without_a_reason_is_a_failure() -> None:
    stream = ResponseStream(request_id="a", outputs=1)
    assert events_of(stream, a_token(1, "x"), Done()) == ["token", "error"]


def test_cancelling_ends_the_outputs_that_go_on() -> None:
    stream = ResponseStream(request_id="a", outputs=2)
    stream.feed([Ended(output_index=0, reason=STOP)])
    (response,) = stream.cancel("ended by Abort", COUNTED)
    assert response.finished.output_index == 1
    assert response.finished.reason == CANCELLED
    assert response.usage.total_tokens == 5


async def test_abort_cuts_a_wait_short_and_nothing_else() -> None:
    flights = Flights()

    async def wait_for_ever() -> None:
        with flights.begin("a") as flight:
            async with flight.waiting():
                await asyncio.Event().wait()

    asyncio.get_running_loop().call_soon(flights.abort, "a")
    with pytest.raises(Aborted):
        await wait_for_ever()
    assert len(flights) == 0
    assert not flights.abort("a")


async def test_abort_between_waits_is_not_lost() -> None:
    flights = Flights()
    with flights.begin("a") as flight:
        assert flights.abort_all() == 1
        with pytest.raises(Aborted):
            await _enter(flight)


async def test_duplicate_is_refused_and_idle_comes_with_the_last() -> None:
    flights = Flights()
    with flights.begin("a"):
        with pytest.raises(RequestFault) as caught:
            flights.begin("a").__enter__()
        assert caught.value.code == error_pb2.ERROR_CODE_DUPLICATE_REQUEST
    await asyncio.wait_for(flights.wait_idle(), 1)


async def _enter(flight: Flight) -> None:
    async with flight.waiting():
        pass
