"""SGLang's own `/generate`: what is asked for, and what is read back of both releases' events."""

import json
from dataclasses import replace
from typing import Any

import pytest

from skerry.api.openengine.v1 import error_pb2, generation_pb2, model_pb2
from workload_plane.engines.port import Dialect
from workload_plane.replica_host.deltas import Counted, Delta, Done, Ended, Failed, TokenPiece
from workload_plane.replica_host.dialects import DIALECTS
from workload_plane.replica_host.faults import RequestFault
from workload_plane.replica_host.sglang_dialect import SGLANG, SGLANG_0_5_9, SglangReader
from workload_plane.replica_host.translate import ResponseStream

STOP = generation_pb2.FINISH_REASON_STOP
LENGTH = generation_pb2.FINISH_REASON_LENGTH
CANCELLED = generation_pb2.FINISH_REASON_CANCELLED
LOGPROBS = {"return_output_logprobs": True, "output_candidates": {"top_n": 2}}
BOTH = pytest.mark.parametrize("dialect", [SGLANG, SGLANG_0_5_9], ids=["0.5.23", "0.5.9"])


def a_request(**fields: Any) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(**({"model": "m", "prompt": "hi"} | fields))


def event(text: str, ids: list[int], count: int, index: int | None = None, **about: Any) -> bytes:
    """One event as `_handle_batch_output` makes it; several sequences have an index."""
    meta = {
        "id": "5e1b",
        "finish_reason": None,
        "prompt_tokens": 3,
        "weight_version": "default",
        "completion_tokens": count,
        "cached_tokens": 1,
        **about,
    }
    values: dict[str, Any] = {"text": text, "output_ids": ids, "meta_info": meta}
    return json.dumps(values if index is None else values | {"index": index}).encode()


def stopped(matched: object) -> dict[str, Any]:
    return {"type": "stop", "matched": matched}


def test_the_launch_finds_the_dialect() -> None:
    assert DIALECTS[Dialect.SGLANG] is SGLANG
    assert DIALECTS[Dialect.SGLANG_0_5_9] is SGLANG_0_5_9
    assert SGLANG.PATH == SGLANG_0_5_9.PATH == "/generate"


def test_the_body_has_only_what_was_set() -> None:
    body = SGLANG.body(a_request(), "m")
    assert body == {"text": "hi", "stream": True, "sampling_params": {}}


def test_the_body_has_the_words_of_sglang() -> None:
    request = a_request(
        token_ids={"ids": [1, 2]},
        sampling={"temperature": 0, "top_k": 5, "seed": 7, "num_sequences": 2},
        stopping={
            "max_tokens": 9,
            "min_tokens": 2,
            "ignore_eos": True,
            "include_stop_in_output": True,
            "conditions": [{"stop_text": "END"}, {"stop_token_id": 0}],
        },
        response=LOGPROBS,
    )
    SGLANG.check(request)
    assert SGLANG.body(request, "m") == {
        "input_ids": [1, 2],
        "stream": True,
        "return_logprob": True,
        "top_logprobs_num": 2,
        "return_text_in_logprobs": True,
        "sampling_params": {
            "temperature": 0,
            "top_k": 5,
            "sampling_seed": 7,
            "n": 2,
            "max_new_tokens": 9,
            "min_new_tokens": 2,
            "ignore_eos": True,
            "no_stop_trim": True,
            "stop": ["END"],
            "stop_token_ids": [0],
        },
    }


def test_no_bound_on_top_k_is_said_in_its_word() -> None:
    body = SGLANG.body(a_request(sampling={"top_k": 0}), "m")
    assert body["sampling_params"] == {"top_k": -1}


def test_each_release_has_its_own_field_for_a_salt_and_both_take_an_adapter_by_name() -> None:
    request = a_request(kv={"cache_salt": "s"}, lora_name="french")
    rest = {"text": "hi", "stream": True, "sampling_params": {}, "lora_path": "french"}
    assert SGLANG.body(request, "m") == rest | {"cache_salt": "s"}
    assert SGLANG_0_5_9.body(request, "m") == rest | {"extra_key": "s"}


@pytest.mark.parametrize(
    ("guided", "expected"),
    [
        ({"json_schema": '{"type": "object"}'}, {"json_schema": '{"type": "object"}'}),
        ({"json_object": {}}, {"json_schema": '{"type": "object"}'}),
        ({"regex": "a+"}, {"regex": "a+"}),
        ({"ebnf_grammar": "root ::= x"}, {"ebnf": "root ::= x"}),
        ({"structural_tag": "{}"}, {"structural_tag": "{}"}),
        ({"choice": {"choices": ["yes", "no (1+1)"]}}, {"regex": r"(yes|no \(1\+1\))"}),
    ],
)
def test_every_guide_is_passed_on(guided: dict[str, Any], expected: dict[str, Any]) -> None:
    request = a_request(guided=guided)
    SGLANG.check(request)
    assert SGLANG.body(request, "m")["sampling_params"] == expected


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"kv": {"bypass_prefix_cache": True}}, "UNSUPPORTED_FEATURE", "cache_salt"),
        ({"response": {"output_candidates": {"all": {}}}}, "UNSUPPORTED_FEATURE", "top_n"),
        ({"response": {"output_candidates": {"top_n": 21}}}, "INVALID_ARGUMENT", "20"),
        ({"guided": {"json_schema": "{"}}, "INVALID_ARGUMENT", "json_schema"),
        ({"guided": {"choice": {}}}, "INVALID_ARGUMENT", "choice"),
        ({"sampling": {"seed": 2**63}}, "INVALID_ARGUMENT", "seed"),
        ({"sampling": {"top_p": 0}}, "INVALID_ARGUMENT", "top_p"),
        ({"sampling": {"repetition_penalty": 0}}, "INVALID_ARGUMENT", "repetition_penalty"),
        ({"sampling": {"repetition_penalty": 2.5}}, "INVALID_ARGUMENT", "repetition_penalty"),
        ({"stopping": {"max_tokens": 2, "min_tokens": 3}}, "INVALID_ARGUMENT", "at most 2"),
        ({"stopping": {"min_tokens": 129}}, "INVALID_ARGUMENT", "without max_tokens"),
    ],
)
@BOTH
def test_what_it_would_not_take_is_refused_before_it_is_asked(
    dialect: Any, fields: dict[str, Any], code: str, word: str
) -> None:
    with pytest.raises(RequestFault, match=word) as caught:
        dialect.check(a_request(**fields))
    assert caught.value.code == error_pb2.ErrorCode.Value(f"ERROR_CODE_{code}")


def test_a_stream_of_deltas_is_read_with_ids_and_counts() -> None:
    request = a_request(stopping={"conditions": [{"stop_text": "END"}]})
    reader = SGLANG.reader(request)
    assert reader.counted_so_far() is None
    assert reader.read(event("Sea", [9], 1)) == [
        Delta(output_index=0, text="Sea", tokens=(TokenPiece(id=9, text="Sea"),))
    ]
    assert reader.counted_so_far() == Counted(
        prompt_tokens=3, completion_tokens=1, cached_prompt_tokens=1
    )
    last = event(" is", [4, 5], 3, finish_reason=stopped("END"))
    assert reader.read(last) == [
        Delta(output_index=0, text=" is", tokens=(TokenPiece(id=4), TokenPiece(id=5))),
        Ended(output_index=0, reason=STOP, stop_text="END"),
    ]
    counted = Counted(prompt_tokens=3, completion_tokens=3, cached_prompt_tokens=1)
    assert reader.read(b"[DONE]") == [counted, Done()]


def test_both_releases_events_of_one_answer_are_read_alike() -> None:
    """0.5.9 repeats text, ids and log probabilities from the beginning; 0.5.23 tells the rest."""
    entries = [[-0.5, 9, "Sea"], [-0.25, 4, " is"], [None, 5, " b"]]
    best: list[list[list[Any]] | None] = [
        [[-0.5, 9, "Sea"], [-1.5, 7, "Sun"]],
        None,
        [[-0.1, 5, " b"]],
    ]

    def logprobs(first: int, last: int) -> dict[str, Any]:
        return {
            "output_token_logprobs": entries[first:last],
            "output_top_logprobs": best[first:last],
            "output_token_logprobs_length": last,
        }

    end: dict[str, Any] = {"finish_reason": {"type": "length", "length": 3}}
    new, old = (dialect.reader(a_request(response=LOGPROBS)) for dialect in (SGLANG, SGLANG_0_5_9))
    of_new = new.read(event("Sea", [9], 1, **logprobs(0, 1)))
    of_new += new.read(event(" is b", [4, 5], 3, **logprobs(1, 3), **end))
    of_old = old.read(event("Sea", [9], 1, **logprobs(0, 1)))
    of_old += old.read(event("Sea is b", [9, 4, 5], 3, **logprobs(0, 3), **end))
    assert of_new == of_old
    sea, sun = (TokenPiece(id=n, text=t, logprob=p) for p, n, t in best[0] or ())
    assert of_new[0] == Delta(
        output_index=0, text="Sea", tokens=(replace(sea, candidates=(sea, sun)),)
    )
    assert of_new[2] == Ended(output_index=0, reason=LENGTH)


@BOTH
def test_a_token_whose_text_comes_later_is_told_without_it(dialect: Any) -> None:
    reader = dialect.reader(a_request())
    assert reader.read(event("", [4], 1)) == [
        Delta(output_index=0, text="", tokens=(TokenPiece(id=4),))
    ]


def test_several_sequences_are_told_apart_and_counted_together() -> None:
    reader = SGLANG.reader(a_request(sampling={"num_sequences": 2}))
    reader.read(event("a", [1], 1, index=1))
    end: dict[str, Any] = {"finish_reason": {"type": "length", "length": 1}}
    (delta, ended) = reader.read(event("b", [2], 1, index=0, **end))
    assert (delta, ended) == (
        Delta(output_index=0, text="b", tokens=(TokenPiece(id=2, text="b"),)),
        Ended(output_index=0, reason=LENGTH),
    )
    # What is cached then is what the request itself computed a moment before.
    assert reader.counted_so_far() == Counted(prompt_tokens=3, completion_tokens=2)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (stopped(7), Ended(output_index=0, reason=STOP, stop_token=7)),
        (stopped(2), Ended(output_index=0, reason=STOP)),  # the end of sequence, asked by nobody
        (stopped([1, 2]), Ended(output_index=0, reason=STOP)),
        ({"type": "abort", "message": "Aborted"}, Ended(output_index=0, reason=CANCELLED)),
        (
            {"type": "abort", "message": "bad grammar", "status_code": 400},
            Failed(
                message="bad grammar", retryable=False, code=error_pb2.ERROR_CODE_INVALID_ARGUMENT
            ),
        ),
        (
            {"type": "abort", "message": "out of memory", "status_code": 500},
            Failed(message="out of memory", retryable=True),
        ),
        (
            stopped("NaN happened"),
            Failed(message="the engine computed no number (NaN)", retryable=True),
        ),
    ],
)
def test_every_ending_is_told_for_what_it_is(finish: dict[str, Any], expected: object) -> None:
    request = a_request(stopping={"conditions": [{"stop_token_id": 7}]})
    assert SGLANG.reader(request).read(event("", [], 0, finish_reason=finish)) == [expected]


def test_counts_of_a_request_that_it_gave_up_are_those_before() -> None:
    """It aborts with an empty prompt in the request's place."""
    reader = SGLANG.reader(a_request())
    reader.read(event("a", [1], 1))
    abort = {"type": "abort", "message": "no", "status_code": 500}
    reader.read(event("", [], 0, finish_reason=abort, prompt_tokens=1))
    counted = reader.counted_so_far()
    assert counted is not None
    assert (counted.prompt_tokens, counted.completion_tokens) == (3, 1)


@pytest.mark.parametrize(
    ("error", "retryable", "code"),
    [
        ({"message": "too long"}, False, error_pb2.ERROR_CODE_INTERNAL),  # 0.5.9
        (
            {"message": "too long", "type": "x", "code": 400, "retryable": False},
            False,
            error_pb2.ERROR_CODE_INVALID_ARGUMENT,
        ),
        ({"message": "too long", "code": 503}, True, error_pb2.ERROR_CODE_OVERLOADED),
        ({"message": "too long", "code": 500}, True, error_pb2.ERROR_CODE_INTERNAL),
    ],
)
def test_a_refusal_in_the_streams_place_is_a_failure_of_whoever_it_was(
    error: dict[str, Any], retryable: bool, code: error_pb2.ErrorCode
) -> None:
    said = SGLANG.reader(a_request()).read(json.dumps({"error": error}).encode())
    assert said == [Failed(message="too long", retryable=retryable, code=code)]


def test_an_abort_by_somebody_else_tells_no_text_twice() -> None:
    """0.5.23 sends the whole text with it, and no count of the prompt."""
    reader = SGLANG.reader(a_request())
    reader.read(event("ab", [1, 2], 2))
    end = {"text": "ab", "output_ids": [2], "index": 0}
    abort = {"type": "abort", "message": "Aborted"}
    told = json.dumps({**end, "meta_info": {"id": "r", "finish_reason": abort}}).encode()
    assert reader.read(told) == [Ended(output_index=0, reason=CANCELLED)]
    counted = reader.counted_so_far()
    assert counted is not None
    assert (counted.prompt_tokens, counted.completion_tokens) == (3, 2)


def test_several_sequences_are_refused_where_they_could_not_be_cancelled() -> None:
    request = a_request(sampling={"num_sequences": 2})
    SGLANG.check(request)
    with pytest.raises(RequestFault, match="num_sequences"):
        SGLANG_0_5_9.check(request)


@pytest.mark.parametrize("wrong", [b"[1]", b"{}", b"nonsense", b'{"text": "x"}'])
def test_what_is_not_its_event_is_not_read(wrong: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        SGLANG.reader(a_request()).read(wrong)


def test_a_client_gets_one_ending_with_the_usage() -> None:
    reader: SglangReader = SGLANG.reader(a_request())
    stream = ResponseStream(request_id="a", outputs=1)
    stream.feed(reader.read(event("Sea", [9], 1)))
    stream.feed(reader.read(event("", [2], 2, finish_reason=stopped(2))))
    (last,) = stream.feed(reader.read(b"[DONE]"))
    assert last.finished.reason == STOP
    assert (last.usage.total_tokens, last.usage.cached_prompt_tokens) == (5, 1)
    assert stream.tokens == 2


def test_capabilities_are_what_is_taken() -> None:
    told = SGLANG.capabilities()
    assert told.output_logprobs.max_top_n == 20
    assert model_pb2.GUIDED_DECODING_MODE_CHOICE in told.guided_decoding.modes
    assert (told.supports_cache_salt, told.supports_stop_in_output) == (True, True)
    assert not told.supports_prefix_cache_bypass


@pytest.mark.parametrize("guide", ["json_schema", "regex", "ebnf_grammar", "structural_tag"])
def test_an_empty_guide_is_refused_for_of_it_engines_make_none(guide: str) -> None:
    with pytest.raises(RequestFault, match=f"guided.{guide}"):
        SGLANG.check(a_request(guided={guide: " "}))


def test_a_token_that_a_guide_rules_out_is_no_candidate() -> None:
    """Its probability is null; as a number it would be certainty."""
    request = a_request(
        response={"return_output_logprobs": True, "output_candidates": {"top_n": 3}}
    )
    values = json.loads(event("a", [1], 1))
    values["meta_info"]["output_token_logprobs"] = [[-0.5, 1, "a"]]
    values["meta_info"]["output_top_logprobs"] = [[[-0.5, 1, "a"], [None, 2, "b"], [-3.0, 3, "c"]]]
    stream = ResponseStream(request_id="r", outputs=1)
    said = SGLANG.reader(request).read(json.dumps(values).encode())
    (response,) = stream.feed(said)
    (token,) = response.token.tokens
    assert [(one.token_id, one.rank) for one in token.candidates] == [(1, 1), (3, 2)]
