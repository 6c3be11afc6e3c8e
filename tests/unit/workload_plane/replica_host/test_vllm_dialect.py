"""vLLM's own fields over OpenAI's API: what is asked for, and what is read back."""

import json
from typing import Any

import pytest

from skerry.api.openengine.v1 import error_pb2, generation_pb2
from workload_plane.engines.port import Dialect
from workload_plane.replica_host import vllm_dialect
from workload_plane.replica_host.deltas import Counted, Delta, Done, Ended, TokenPiece
from workload_plane.replica_host.dialects import DIALECTS
from workload_plane.replica_host.faults import RequestFault
from workload_plane.replica_host.sampling import check_request


def a_request(**fields: Any) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(**({"model": "m", "prompt": "hi"} | fields))


def event(**choice: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "text": "", **choice}]}).encode()


LOGPROBS = {"return_output_logprobs": True, "output_candidates": {"top_n": 2}}


def test_the_launch_finds_the_dialect() -> None:
    assert DIALECTS[Dialect.VLLM] is vllm_dialect


def test_the_body_asks_for_ids_and_only_for_what_was_set() -> None:
    assert vllm_dialect.body(a_request(), "m") == {
        "model": "m",
        "prompt": "hi",
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }


def test_the_body_has_the_words_of_vllm() -> None:
    request = a_request(
        token_ids={"ids": [1, 2]},
        response=LOGPROBS,
        kv={"cache_salt": "s"},
        stopping={"include_stop_in_output": True, "min_tokens": 2},
    )
    body = vllm_dialect.body(request, "m")
    assert body["prompt"] == [1, 2]
    assert (body["logprobs"], body["return_tokens_as_token_ids"]) == (2, True)
    assert body["cache_salt"] == "s"
    assert (body["include_stop_str_in_output"], body["min_tokens"]) == (True, 2)


def test_an_adapter_is_asked_for_by_its_name_where_there_is_one() -> None:
    request = a_request(lora_name="french")
    terms: Any = {"served_name": "m", "sequences_max": 4}
    check_request(request, **terms, adapters=("french", "german"))
    assert vllm_dialect.body(request, "m")["model"] == "french"
    with pytest.raises(RequestFault, match="'french' is none of german"):
        check_request(request, **terms, adapters=("german",))
    with pytest.raises(RequestFault, match="no adapters"):
        check_request(request, **terms)


@pytest.mark.parametrize(
    ("guided", "expected"),
    [
        ({"json_schema": '{"type": "object"}'}, {"json": {"type": "object"}}),
        ({"regex": "a+"}, {"regex": "a+"}),
        ({"ebnf_grammar": "root ::= x"}, {"grammar": "root ::= x"}),
        ({"structural_tag": "{}"}, {"structural_tag": "{}"}),
        ({"choice": {"choices": ["a", "b"]}}, {"choice": ["a", "b"]}),
        ({"json_object": {}}, {"json_object": True}),
    ],
)
def test_every_guide_is_passed_on(guided: dict[str, Any], expected: dict[str, Any]) -> None:
    request = a_request(guided=guided)
    vllm_dialect.check(request)
    assert vllm_dialect.body(request, "m")["structured_outputs"] == expected


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"kv": {"bypass_prefix_cache": True}}, "UNSUPPORTED_FEATURE", "cache_salt"),
        ({"response": {"output_candidates": {"all": {}}}}, "UNSUPPORTED_FEATURE", "top_n"),
        ({"response": {"output_candidates": {"top_n": 21}}}, "INVALID_ARGUMENT", "20"),
        ({"guided": {"json_schema": "{"}}, "INVALID_ARGUMENT", "json_schema"),
        ({"guided": {"choice": {}}}, "INVALID_ARGUMENT", "choice"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    fields: dict[str, Any], code: str, word: str
) -> None:
    with pytest.raises(RequestFault, match=word) as caught:
        vllm_dialect.check(a_request(**fields))
    assert caught.value.code == error_pb2.ErrorCode.Value(f"ERROR_CODE_{code}")


def test_a_stream_is_read_with_ids_logprobs_and_counts() -> None:
    reader = vllm_dialect.reader(a_request(response=LOGPROBS))
    logprobs = {
        "tokens": ["token_id:5"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"token_id:5": -0.5, "token_id:7": -1.0, "token_id:9": -2.0}],
    }
    assert reader.counted_so_far() is None
    first = reader.read(
        event(text="A", token_ids=[5], prompt_token_ids=[1, 2, 3], logprobs=logprobs)
    )
    candidates = (TokenPiece(id=5, logprob=-0.5), TokenPiece(id=7, logprob=-1.0))
    piece = TokenPiece(id=5, text="A", logprob=-0.5, candidates=candidates)
    assert first == [Delta(output_index=0, text="A", tokens=(piece,))]
    assert reader.counted_so_far() == Counted(prompt_tokens=3, completion_tokens=1)
    two = reader.read(event(text="é!", token_ids=[8, 9], finish_reason="stop", stop_reason=9))
    assert two == [
        Delta(output_index=0, text="é!", tokens=(TokenPiece(id=8), TokenPiece(id=9))),
        Ended(output_index=0, reason=generation_pb2.FINISH_REASON_STOP, stop_token=9),
    ]
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3}}
    assert reader.read(json.dumps(usage).encode()) == [
        Counted(prompt_tokens=3, completion_tokens=3)
    ]
    assert reader.read(b"[DONE]") == [Done()]


def test_a_token_whose_text_comes_later_is_told_without_it() -> None:
    reader = vllm_dialect.reader(a_request())
    assert reader.read(event(token_ids=[4])) == [
        Delta(output_index=0, text="", tokens=(TokenPiece(id=4),))
    ]
    assert reader.read(event()) == []
