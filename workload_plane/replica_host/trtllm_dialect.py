"""TensorRT-LLM's `/v1/completions`: OpenAI's with guides, and with token ids instead of text.

Pure; the values implement `dialects.EngineDialect` on top of `openai_dialect`. Written from the
sources of 1.2's and 1.4's release lines, never run here; an unknown field is refused by it. It
tells ids only of an answer that it does not turn into text, which a client asks for as Dynamo
does: `token_ids` in, and `extra.detokenize` false.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skerry.api.openengine.v1 import generation_pb2, model_pb2
from workload_plane.replica_host import openai_dialect
from workload_plane.replica_host.deltas import Counted, Delta, EngineSaid, TokenPiece
from workload_plane.replica_host.faults import invalid, unsupported
from workload_plane.replica_host.sampling import (
    check_guide,
    choice_regex,
    stop_texts,
    stop_token_ids,
)

_DETOKENIZE = "detokenize"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtllmDialect:
    """One release line's words: whether its completions tell log probabilities."""

    tells_logprobs: bool
    PATH: str = openai_dialect.PATH

    def check(self, request: generation_pb2.GenerateRequest) -> None:
        """Raise RequestFault for what TensorRT-LLM cannot honour."""
        if request.kv.cache_salt:
            raise unsupported("kv.cache_salt", "TensorRT-LLM's completions have none")
        if request.kv.bypass_prefix_cache:
            raise unsupported("kv.bypass_prefix_cache", "TensorRT-LLM has no word for it")
        if _tells_ids(request):
            _check_ids(request)
        if request.response.return_output_logprobs:
            self._check_logprobs(request)
        _check_guide(request.guided)

    def body(self, request: generation_pb2.GenerateRequest, served_name: str) -> Mapping[str, Any]:
        """Return the body for `/v1/completions`."""
        values = dict(openai_dialect.body(request, served_name))
        if request.sampling.num_sequences <= 1:
            # Counts of a stream that is cut short; of several sequences each event tells its own.
            values["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if request.sampling.HasField("top_k"):
            values["top_k"] = max(0, request.sampling.top_k)  # 0 is its word for: all of them
        if request.stopping.include_stop_in_output:
            values["include_stop_str_in_output"] = True
        if _tells_ids(request):
            values[_DETOKENIZE] = False
        if request.response.return_output_logprobs:
            values["logprobs"] = 1  # 0 is none
        if guide := _guide(request.guided):
            values["response_format"] = guide
        return values

    def reader(self, request: generation_pb2.GenerateRequest) -> "TrtllmReader":
        """Return the reader of the answer to that request."""
        del request
        return TrtllmReader()

    def capabilities(self) -> model_pb2.GenerationCapabilities:
        """Return what Generate takes in this dialect."""
        return model_pb2.GenerationCapabilities(
            prompt_logprobs=model_pb2.LogprobCapabilities(supported=False),
            output_logprobs=model_pb2.LogprobCapabilities(supported=self.tells_logprobs),
            guided_decoding=model_pb2.GuidedDecodingCapabilities(
                supported=True,
                modes=[
                    model_pb2.GUIDED_DECODING_MODE_JSON_SCHEMA,
                    model_pb2.GUIDED_DECODING_MODE_REGEX,
                    model_pb2.GUIDED_DECODING_MODE_EBNF_GRAMMAR,
                    model_pb2.GUIDED_DECODING_MODE_STRUCTURAL_TAG,
                    model_pb2.GUIDED_DECODING_MODE_CHOICE,
                    model_pb2.GUIDED_DECODING_MODE_JSON_OBJECT,
                ],
            ),
            supports_priority=False,
            supports_stop_in_output=True,
            supports_cache_salt=False,
            supports_prefix_cache_bypass=False,
        )

    def _check_logprobs(self, request: generation_pb2.GenerateRequest) -> None:
        field = "response.return_output_logprobs"
        if not self.tells_logprobs:
            raise unsupported(field, "TensorRT-LLM 1.2's completions have none; 1.4's have")
        if not _tells_ids(request):
            raise unsupported(
                field, "TensorRT-LLM tells their ids only with token_ids and extra.detokenize false"
            )
        selection = request.response.output_candidates.WhichOneof("selection")
        if selection not in (None, "top_n") or request.response.output_candidates.top_n:
            raise unsupported(
                "response.output_candidates", "TensorRT-LLM names other tokens by their text alone"
            )
        # It takes the stop out of the ids and leaves its log probability, which ends the stream.
        if stop_token_ids(request) and not request.stopping.include_stop_in_output:
            raise unsupported(
                field, "with stop tokens TensorRT-LLM needs stopping.include_stop_in_output"
            )


TRTLLM_SERVE = TrtllmDialect(tells_logprobs=True)
TRTLLM_SERVE_1_2 = TrtllmDialect(tells_logprobs=False)


class TrtllmReader:
    """Reads one stream of text, or of token ids; remembers the last count."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._counted: Counted | None = None

    def read(self, event: bytes) -> list[EngineSaid]:
        """Return what one event says; raises ValueError when it is not the API's."""
        said = openai_dialect.read_event(event, _delta)
        self._counted = next((one for one in said if isinstance(one, Counted)), self._counted)
        return said

    def counted_so_far(self) -> Counted | None:
        """Return the tokens of what was read; None where the engine has not told them yet."""
        return self._counted


def _delta(index: int, choice: Mapping[str, Any]) -> Delta | None:
    text, ids = choice.get("text") or "", choice.get("token_ids") or ()
    if not text and not ids:
        return None
    about = choice.get("logprobs") or {}
    values, words = about.get("token_logprobs") or (), about.get("tokens") or ()
    pieces = tuple(
        TokenPiece(
            id=int(number),
            text=words[place] if place < len(words) else "",
            logprob=values[place] if place < len(values) else None,
        )
        for place, number in enumerate(ids)
    )
    return Delta(output_index=index, text=text, tokens=pieces)


def _tells_ids(request: generation_pb2.GenerateRequest) -> bool:
    """Return whether the client wants ids in place of text; only one that sends ids can."""
    if request.WhichOneof("input") != "token_ids" or _DETOKENIZE not in request.extra.fields:
        return False
    wanted = request.extra.fields[_DETOKENIZE]
    return wanted.WhichOneof("kind") == "bool_value" and not wanted.bool_value


def _check_ids(request: generation_pb2.GenerateRequest) -> None:
    if request.sampling.num_sequences > 1:
        raise unsupported(
            "sampling.num_sequences", "with extra.detokenize false TensorRT-LLM repeats others' ids"
        )
    if stop_texts(request):
        raise unsupported(
            "stopping.conditions.stop_text",
            "with extra.detokenize false TensorRT-LLM sees no text; give stop tokens",
        )


def _check_guide(guided: generation_pb2.GuidedDecoding) -> None:
    check_guide(guided)
    if guided.WhichOneof("guide") == "json_schema" and not isinstance(
        json.loads(guided.json_schema), dict
    ):
        raise invalid("guided.json_schema", "must be a JSON object with this engine")
    if guided.WhichOneof("guide") == "structural_tag":
        _tag_format(guided.structural_tag)


def _tag_format(text: str) -> Mapping[str, Any]:
    """Return the format in a structural tag; TensorRT-LLM does not take the older form."""
    try:
        tag = json.loads(text)
    except ValueError as error:
        raise invalid("guided.structural_tag", f"is not JSON: {error}") from None
    found = tag.get("format") if isinstance(tag, dict) else None
    if not isinstance(found, dict):
        raise invalid("guided.structural_tag", 'must be {"type": "structural_tag", "format": ...}')
    return found


def _guide(guided: generation_pb2.GuidedDecoding) -> dict[str, Any]:
    match guided.WhichOneof("guide"):
        case "json_schema":
            # Not its "json_schema", which 1.2 does not know and later ones look into for a name.
            return {"type": "json", "schema": json.loads(guided.json_schema)}
        case "json_object":
            return {"type": "json_object"}
        case "regex":
            return {"type": "regex", "regex": guided.regex}
        case "ebnf_grammar":
            return {"type": "ebnf", "ebnf": guided.ebnf_grammar}
        case "structural_tag":
            return {"type": "structural_tag", "format": _tag_format(guided.structural_tag)}
        case "choice":
            return {"type": "regex", "regex": choice_regex(guided.choice.choices)}
    return {}
