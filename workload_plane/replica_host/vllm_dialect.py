"""vLLM's `/v1/completions`: OpenAI's, with token ids, log probabilities and guides over it.

Pure; implements `dialects.EngineDialect` on top of `openai_dialect`. Written from vLLM 0.33's API,
never run here: `return_token_ids` tells the ids of each delta, `return_tokens_as_token_ids` names
tokens in log probabilities as `token_id:N`.
"""

import json
from collections.abc import Mapping
from typing import Any

from skerry.api.openengine.v1 import generation_pb2, model_pb2
from workload_plane.replica_host import openai_dialect
from workload_plane.replica_host.deltas import Counted, Delta, EngineSaid, TokenPiece
from workload_plane.replica_host.faults import unsupported
from workload_plane.replica_host.sampling import check_candidates, check_guide

PATH = openai_dialect.PATH

# Its own default for `max_logprobs`.
_TOP_N_MAX = 20
_NAMED = "token_id:"
_GUIDES = {"json_schema": "json", "regex": "regex", "ebnf_grammar": "grammar"}


def check(request: generation_pb2.GenerateRequest) -> None:
    """Raise RequestFault for what vLLM cannot honour."""
    if request.kv.bypass_prefix_cache:
        raise unsupported("kv.bypass_prefix_cache", "give a kv.cache_salt of its own instead")
    check_candidates(request.response, _TOP_N_MAX)
    check_guide(request.guided)


def body(request: generation_pb2.GenerateRequest, served_name: str) -> Mapping[str, Any]:
    """Return the body for `/v1/completions`."""
    values = dict(openai_dialect.body(request, served_name))
    values["return_token_ids"] = True
    if request.lora_name:
        values["model"] = request.lora_name  # an adapter is a model of its own there
    if request.response.return_output_logprobs:
        values["logprobs"] = request.response.output_candidates.top_n
        values["return_tokens_as_token_ids"] = True
    if request.stopping.include_stop_in_output:
        values["include_stop_str_in_output"] = True
    if request.kv.cache_salt:
        values["cache_salt"] = request.kv.cache_salt
    if guide := _guide(request.guided):
        values["structured_outputs"] = guide
    return values


def reader(request: generation_pb2.GenerateRequest) -> "VllmReader":
    """Return the reader of the answer to that request."""
    with_logprobs = request.response.return_output_logprobs
    candidates = request.response.output_candidates.top_n if with_logprobs else 0
    return VllmReader(candidates=candidates)


def capabilities() -> model_pb2.GenerationCapabilities:
    """Return what Generate takes in this dialect."""
    return model_pb2.GenerationCapabilities(
        prompt_logprobs=model_pb2.LogprobCapabilities(supported=False),
        output_logprobs=model_pb2.LogprobCapabilities(
            supported=True,
            candidate_selection_modes=[model_pb2.CANDIDATE_TOKEN_SELECTION_MODE_TOP_N],
            max_top_n=_TOP_N_MAX,
        ),
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
        supports_cache_salt=True,
        supports_prefix_cache_bypass=False,
    )


class VllmReader:
    """Reads one stream; counts along for one that is cut short."""

    __slots__ = ("_candidates", "_completion", "_prompt")

    def __init__(self, *, candidates: int) -> None:
        """Expect so many alternatives a token."""
        self._candidates = candidates
        self._prompt: int | None = None
        self._completion = 0

    def read(self, event: bytes) -> list[EngineSaid]:
        """Return what one event says; raises ValueError when it is not the API's."""
        return openai_dialect.read_event(event, self._delta)

    def counted_so_far(self) -> Counted | None:
        """Return the tokens of what was read; None before the first event told the prompt's."""
        if self._prompt is None:
            return None
        return Counted(prompt_tokens=self._prompt, completion_tokens=self._completion)

    def _delta(self, index: int, choice: Mapping[str, Any]) -> Delta | None:
        # The first event of a choice carries the prompt's ids.
        if (prompt := choice.get("prompt_token_ids")) is not None and self._prompt is None:
            self._prompt = len(prompt)
        ids = choice.get("token_ids") or ()
        text = choice.get("text") or ""
        self._completion += len(ids)
        if not ids and not text:
            return None
        about = choice.get("logprobs") or {}
        values = about.get("token_logprobs") or ()
        others = about.get("top_logprobs") or ()
        pieces = tuple(
            TokenPiece(
                id=int(number),
                text=text if len(ids) == 1 else "",
                logprob=values[place] if place < len(values) else None,
                candidates=self._others(others[place] if place < len(others) else None),
            )
            for place, number in enumerate(ids)
        )
        return Delta(output_index=index, text=text, tokens=pieces)

    def _others(self, found: Mapping[str, float] | None) -> tuple[TokenPiece, ...]:
        if not found:
            return ()
        # The chosen token comes first even where it is none of the best.
        best = sorted(found.items(), key=lambda item: item[1], reverse=True)[: self._candidates]
        return tuple(
            TokenPiece(id=int(name.removeprefix(_NAMED)), logprob=value)
            for name, value in best
            if name.startswith(_NAMED)
        )


def _guide(guided: generation_pb2.GuidedDecoding) -> dict[str, Any]:
    match guided.WhichOneof("guide"):
        case None:
            return {}
        case "json_object":
            return {"json_object": True}
        case "choice":
            return {"choice": list(guided.choice.choices)}
        case "structural_tag":
            return {"structural_tag": guided.structural_tag}
        case "json_schema":
            return {"json": json.loads(guided.json_schema)}
        case kind:
            return {_GUIDES[kind]: getattr(guided, kind)}
