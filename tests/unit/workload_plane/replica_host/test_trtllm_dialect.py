"""TensorRT-LLM's own fields over OpenAI's API, by release line, and both ways of its answers."""

import json
from typing import Any

import pytest

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from workload_plane.engines.port import Dialect
from workload_plane.replica_host.deltas import Counted, Delta, Done, Ended, Failed, TokenPiece
from workload_plane.replica_host.dialects import DIALECTS
from workload_plane.replica_host.faults import RequestFault
from workload_plane.replica_host.trtllm_dialect import TRTLLM_SERVE, TRTLLM_SERVE_1_2

STOP = generation_pb2.FINISH_REASON_STOP
CANCELLED = generation_pb2.FINISH_REASON_CANCELLED
BOTH = pytest.mark.parametrize("dialect", [TRTLLM_SERVE_1_2, TRTLLM_SERVE], ids=["1.2", "1.4"])
# As Dynamo's sidecar asks: ids in, and ids out.
IDS: dict[str, Any] = {"token_ids": {"ids": [1, 2]}, "extra": {"detokenize": False}}
LOGPROBS = {"return_output_logprobs": True}


def a_request(**fields: Any) -> generation_pb2.GenerateRequest:
    extra = fields.pop("extra", {})
    source = {} if "token_ids" in fields else {"prompt": "hi"}
    request = generation_pb2.GenerateRequest(**({"model": "m"} | source | fields))
    request.extra.update(extra)
    return request


def event(usage: dict[str, Any] | None = None, **choice: Any) -> bytes:
    """One event as `completion_stream_post_processor` makes it: nothing is left out."""
    whole = {
        "index": 0,
        "text": "",
        "token_ids": None,
        "logprobs": None,
        "finish_reason": None,
        "stop_reason": None,
        "avg_decoded_tokens_per_iter": 1.0,
        **choice,
    }
    chunk = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return json.dumps({**chunk, "choices": [whole], "usage": usage}).encode()


def used(completion: int) -> dict[str, Any]:
    details = {"prompt_tokens_details": {"cached_tokens": 1}}
    total = {"prompt_tokens": 2, "completion_tokens": completion, "total_tokens": 2 + completion}
    return total | details


def counted(completion: int) -> Counted:
    return Counted(prompt_tokens=2, completion_tokens=completion, cached_prompt_tokens=1)


def test_the_launch_finds_the_dialect_of_its_release_line() -> None:
    assert DIALECTS[Dialect.TRTLLM_SERVE] is TRTLLM_SERVE
    assert DIALECTS[Dialect.TRTLLM_SERVE_1_2] is TRTLLM_SERVE_1_2
    assert TRTLLM_SERVE.PATH == "/v1/completions"


@BOTH
def test_the_body_has_only_what_was_set_as_every_unknown_field_is_refused(dialect: Any) -> None:
    assert dialect.body(a_request(), "m") == {
        "model": "m",
        "prompt": "hi",
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


@BOTH
def test_the_body_has_the_words_of_tensorrt_llm(dialect: Any) -> None:
    request = a_request(
        sampling={"temperature": 0, "top_k": -1, "seed": 7, "num_sequences": 2},
        stopping={
            "max_tokens": 9,
            "min_tokens": 2,
            "include_stop_in_output": True,
            "conditions": [{"stop_text": "END"}, {"stop_token_id": 0}],
        },
    )
    dialect.check(request)
    assert dialect.body(request, "m") == {
        "model": "m",
        "prompt": "hi",
        "stream": True,
        # Of several sequences each event would tell its own counts as those of all.
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "top_k": 0,
        "seed": 7,
        "n": 2,
        "max_tokens": 9,
        "min_tokens": 2,
        "stop": ["END"],
        "stop_token_ids": [0],
        "include_stop_str_in_output": True,
    }


TAG = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": {}}}


@pytest.mark.parametrize(
    ("guided", "expected"),
    [
        (
            {"json_schema": '{"type": "object"}'},
            {"type": "json", "schema": {"type": "object"}},
        ),
        ({"json_object": {}}, {"type": "json_object"}),
        ({"regex": "a+"}, {"type": "regex", "regex": "a+"}),
        ({"ebnf_grammar": "root ::= x"}, {"type": "ebnf", "ebnf": "root ::= x"}),
        ({"structural_tag": json.dumps(TAG)}, TAG),
        ({"choice": {"choices": ["a", "b."]}}, {"type": "regex", "regex": r"(a|b\.)"}),
    ],
)
@BOTH
def test_every_guide_is_a_response_format(
    dialect: Any, guided: dict[str, Any], expected: dict[str, Any]
) -> None:
    request = a_request(guided=guided)
    dialect.check(request)
    assert dialect.body(request, "m")["response_format"] == expected


@BOTH
def test_ids_come_out_where_the_client_sends_ids_and_wants_no_text(dialect: Any) -> None:
    dialect.check(a_request(**IDS))
    assert dialect.body(a_request(**IDS), "m")["detokenize"] is False
    # Else it gets text, which is what it can go on from.
    assert "detokenize" not in dialect.body(a_request(token_ids={"ids": [1]}), "m")
    assert "detokenize" not in dialect.body(a_request(extra={"detokenize": False}), "m")
    assert "detokenize" not in dialect.body(a_request(**(IDS | {"extra": {"detokenize": 0}})), "m")


def test_log_probabilities_are_asked_of_the_release_line_that_has_them() -> None:
    request = a_request(**IDS, response=LOGPROBS)
    TRTLLM_SERVE.check(request)
    assert TRTLLM_SERVE.body(request, "m")["logprobs"] == 1
    with pytest.raises(RequestFault, match=r"1\.2's completions have none"):
        TRTLLM_SERVE_1_2.check(request)
    assert TRTLLM_SERVE.capabilities().output_logprobs.supported
    assert not TRTLLM_SERVE_1_2.capabilities().output_logprobs.supported


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"kv": {"cache_salt": "s"}}, "UNSUPPORTED_FEATURE", "cache_salt"),
        ({"kv": {"bypass_prefix_cache": True}}, "UNSUPPORTED_FEATURE", "bypass_prefix_cache"),
        ({"response": LOGPROBS}, "UNSUPPORTED_FEATURE", "extra.detokenize"),
        (
            IDS | {"response": LOGPROBS | {"output_candidates": {"top_n": 2}}},
            "UNSUPPORTED_FEATURE",
            "text alone",
        ),
        (
            IDS | {"response": LOGPROBS, "stopping": {"conditions": [{"stop_token_id": 2}]}},
            "UNSUPPORTED_FEATURE",
            "include_stop_in_output",
        ),
        (IDS | {"sampling": {"num_sequences": 2}}, "UNSUPPORTED_FEATURE", "num_sequences"),
        (
            IDS | {"stopping": {"conditions": [{"stop_text": "END"}]}},
            "UNSUPPORTED_FEATURE",
            "give stop tokens",
        ),
        ({"guided": {"json_schema": "{"}}, "INVALID_ARGUMENT", "json_schema"),
        ({"guided": {"json_schema": "true"}}, "INVALID_ARGUMENT", "a JSON object"),
        ({"guided": {"structural_tag": "{"}}, "INVALID_ARGUMENT", "structural_tag"),
        ({"guided": {"structural_tag": '{"triggers": []}'}}, "INVALID_ARGUMENT", "format"),
    ],
)
def test_what_it_has_not_is_refused_by_name(fields: dict[str, Any], code: str, word: str) -> None:
    with pytest.raises(RequestFault, match=word) as caught:
        TRTLLM_SERVE.check(a_request(**fields))
    assert caught.value.code == error_pb2.ErrorCode.Value(f"ERROR_CODE_{code}")


def test_a_stream_of_text_is_read_with_its_counts() -> None:
    reader = TRTLLM_SERVE.reader(a_request())
    assert reader.counted_so_far() is None
    delta = Delta(output_index=0, text="Sea")
    assert reader.read(event(used(1), text="Sea")) == [delta, counted(1)]
    assert reader.counted_so_far() == counted(1)
    ended = Ended(output_index=0, reason=STOP, stop_text="END")
    last = event(used(2), finish_reason="stop", stop_reason="END")
    assert reader.read(last) == [ended, counted(2)]
    assert reader.read(b"[DONE]") == [Done()]


def test_a_stream_of_ids_is_read_with_their_log_probabilities() -> None:
    reader = TRTLLM_SERVE.reader(a_request(**IDS, response=LOGPROBS))
    logprobs = {
        "text_offset": [0, 4],
        "token_logprobs": [-0.5, -1.0],
        "tokens": ["Sea", " is"],
        "top_logprobs": [{"Sea": -0.5}, {" is": -1.0}],
    }
    pieces = (
        TokenPiece(id=9, text="Sea", logprob=-0.5),
        TokenPiece(id=4, text=" is", logprob=-1.0),
    )
    assert reader.read(event(token_ids=[9, 4], logprobs=logprobs)) == [
        Delta(output_index=0, text="", tokens=pieces)
    ]
    assert reader.read(event(token_ids=[])) == []


def test_an_id_without_log_probability_is_told_alone() -> None:
    assert TRTLLM_SERVE_1_2.reader(a_request(**IDS)).read(event(token_ids=[9])) == [
        Delta(output_index=0, text="", tokens=(TokenPiece(id=9),))
    ]


@pytest.mark.parametrize("reason", ["cancelled", "timeout"])
def test_what_the_engine_gave_up_is_no_stop(reason: str) -> None:
    said = TRTLLM_SERVE.reader(a_request()).read(event(finish_reason=reason))
    assert said == [Ended(output_index=0, reason=CANCELLED)]


def test_an_error_in_the_stream_is_a_failure() -> None:
    error = {"message": "boom", "type": "server_error", "code": None, "param": None}
    said = TRTLLM_SERVE.reader(a_request()).read(json.dumps({"error": error}).encode())
    assert said == [Failed(message="boom", retryable=True)]
