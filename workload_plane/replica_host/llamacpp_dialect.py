"""llama.cpp's own `/completion`: token ids, log probabilities, grammars.

Pure; implements `dialects.EngineDialect`. The simulated engine speaks it too.
"""

import json
from collections.abc import Mapping
from typing import Any

from skerry.api.openengine.v1 import generation_pb2, model_pb2
from workload_plane.replica_host.deltas import (
    Counted,
    Delta,
    Done,
    Ended,
    EngineSaid,
    Failed,
    TokenPiece,
)
from workload_plane.replica_host.faults import invalid, unsupported
from workload_plane.replica_host.sampling import check_guide, present, stop_texts, stop_token_ids

PATH = "/completion"

# Its seeds have 32 bits, and the highest means "choose one".
_SEED_MAX = 2**32 - 2
_TOP_N_MAX = 20
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
    "seed": "seed",
    "num_sequences": "n_cmpl",
}
_STOPPING = {"max_tokens": "n_predict", "ignore_eos": "ignore_eos"}
_REASONS = {
    "limit": generation_pb2.FINISH_REASON_LENGTH,
    "eos": generation_pb2.FINISH_REASON_STOP,
    "word": generation_pb2.FINISH_REASON_STOP,
}


def check(request: generation_pb2.GenerateRequest) -> None:
    """Raise RequestFault for what llama.cpp cannot honour."""
    stopping, response = request.stopping, request.response
    if request.sampling.seed > _SEED_MAX:
        raise invalid("sampling.seed", f"must be at most {_SEED_MAX} with this engine")
    if stopping.min_tokens:
        raise unsupported("stopping.min_tokens", "llama.cpp has no least length")
    if stopping.include_stop_in_output:
        raise unsupported("stopping.include_stop_in_output", "llama.cpp leaves the stop text out")
    if stop_token_ids(request) and request.sampling.num_sequences > 1:
        raise unsupported("stopping.conditions.stop_token_id", "only with one sequence")
    if request.kv.cache_salt:
        raise unsupported("kv.cache_salt", "llama.cpp shares its cache; bypass it instead")
    selection = response.output_candidates.WhichOneof("selection")
    if selection not in (None, "top_n"):
        raise unsupported(f"response.output_candidates.{selection}", "only top_n can be had")
    if response.output_candidates.top_n > _TOP_N_MAX:
        raise invalid("response.output_candidates.top_n", f"must be at most {_TOP_N_MAX}")
    guide = request.guided.WhichOneof("guide")
    if guide in ("regex", "structural_tag"):
        raise unsupported(f"guided.{guide}", "give a JSON schema, a grammar or choices")
    check_guide(request.guided)


def body(request: generation_pb2.GenerateRequest, served_name: str) -> Mapping[str, Any]:
    """Return the body for `/completion`."""
    by_text = request.WhichOneof("input") == "prompt"
    values: dict[str, Any] = {
        "model": served_name,
        "prompt": request.prompt if by_text else list(request.token_ids.ids),
        "stream": True,
        "return_tokens": True,
        **dict(present(request.sampling, _SAMPLING)),
        **dict(present(request.stopping, _STOPPING)),
    }
    if stops := stop_texts(request):
        values["stop"] = stops
    if request.response.return_output_logprobs:
        values["n_probs"] = max(1, request.response.output_candidates.top_n)
    if request.kv.bypass_prefix_cache:
        values["cache_prompt"] = False
    values.update(_guide(request.guided))
    return values


def reader(request: generation_pb2.GenerateRequest) -> "LlamacppReader":
    """Return the reader of the answer to that request."""
    wanted = request.sampling.num_sequences or 1
    with_logprobs = request.response.return_output_logprobs
    candidates = request.response.output_candidates.top_n if with_logprobs else 0
    stops = frozenset(stop_token_ids(request))
    return LlamacppReader(outputs=wanted, candidates=candidates, stop_tokens=stops)


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
                model_pb2.GUIDED_DECODING_MODE_EBNF_GRAMMAR,
                model_pb2.GUIDED_DECODING_MODE_CHOICE,
                model_pb2.GUIDED_DECODING_MODE_JSON_OBJECT,
            ],
        ),
        supports_priority=False,
        supports_stop_in_output=False,
        supports_cache_salt=False,
        supports_prefix_cache_bypass=True,
    )


class LlamacppReader:
    """Reads one stream of `/completion`; counts tokens, because some are sent without their id."""

    __slots__ = (
        "_cached",
        "_candidates",
        "_ended",
        "_outputs",
        "_predicted",
        "_prompt",
        "_stop_tokens",
    )

    def __init__(self, *, outputs: int, candidates: int, stop_tokens: frozenset[int]) -> None:
        """Expect so many outputs, so many alternatives a token, and an end at those tokens."""
        self._outputs = outputs
        self._stop_tokens = stop_tokens
        self._candidates = candidates
        self._predicted: dict[int, int] = {}
        self._ended = 0
        self._prompt = 0
        self._cached = 0

    def read(self, event: bytes) -> list[EngineSaid]:
        """Return what one event says; raises ValueError when it is not llama.cpp's."""
        values = json.loads(event)
        if not isinstance(values, dict):
            raise ValueError("an event that is no object")
        if "error" in values:
            return [_failure(values["error"])]
        index = int(values.get("index", 0))
        said: list[EngineSaid] = []
        self._prompt = max(self._prompt, int(values.get("tokens_evaluated", 0)))
        if not values.get("stop"):
            return self._until_stop_token(self._delta(index, values))
        if values.get("content") or values.get("tokens"):
            said.append(self._delta(index, values))
        self._predicted[index] = int(values.get("tokens_predicted", 0))
        self._cached = max(self._cached, int(values.get("timings", {}).get("cache_n", 0)))
        self._ended += 1
        reason = _REASONS.get(values.get("stop_type", ""), generation_pb2.FINISH_REASON_STOP)
        said.append(
            Ended(output_index=index, reason=reason, stop_text=values.get("stopping_word") or "")
        )
        if self._ended == self._outputs:
            said += [self._counted(), Done()]
        return said

    def counted_so_far(self) -> Counted | None:
        """Return the tokens of what was read; None before the first event."""
        return self._counted() if self._prompt else None

    def _until_stop_token(self, delta: Delta) -> list[EngineSaid]:
        # llama.cpp has no such condition, but it tells every token as it comes: the stream is
        # left at that one, which frees the slot.
        met = next((p.id for p in delta.tokens if p.id in self._stop_tokens), None)
        if met is None:
            return [delta]
        reason = generation_pb2.FINISH_REASON_STOP
        ended = Ended(output_index=delta.output_index, reason=reason, stop_token=met)
        return [ended, self._counted(), Done()]

    def _delta(self, index: int, values: Mapping[str, Any]) -> Delta:
        # Bytes of one character may come as several tokens: the engine sends them as one event
        # with the last token's id only.
        predicted = int(values.get("tokens_predicted", 0))
        ids = values.get("tokens") or []
        missing = predicted - self._predicted.get(index, 0) - len(ids)
        self._predicted[index] = predicted
        about = {entry["id"]: entry for entry in values.get("completion_probabilities") or ()}
        return Delta(
            output_index=index,
            text=values.get("content") or "",
            tokens=tuple(self._piece(number, about.get(number)) for number in ids),
            tokens_missing=max(0, missing),
        )

    def _piece(self, number: int, about: Mapping[str, Any] | None) -> TokenPiece:
        if about is None:
            return TokenPiece(id=number)
        others = about.get("top_logprobs") or ()
        return TokenPiece(
            id=number,
            text=about.get("token") or "",
            logprob=about.get("logprob"),
            candidates=tuple(
                TokenPiece(id=o["id"], text=o.get("token") or "", logprob=o.get("logprob"))
                for o in others[: self._candidates]
            ),
        )

    def _counted(self) -> Counted:
        return Counted(
            prompt_tokens=self._prompt,
            completion_tokens=sum(self._predicted.values()),
            cached_prompt_tokens=self._cached,
        )


def _guide(guided: generation_pb2.GuidedDecoding) -> dict[str, Any]:
    match guided.WhichOneof("guide"):
        case "json_schema":
            return {"json_schema": json.loads(guided.json_schema)}
        case "json_object":
            return {"json_schema": {"type": "object"}}
        case "ebnf_grammar":
            return {"grammar": guided.ebnf_grammar}
        case "choice":
            # A JSON text is also a literal of its grammar language.
            choices = (json.dumps(choice) for choice in guided.choice.choices)
            return {"grammar": f"root ::= {' | '.join(choices)}"}
    return {}


def _failure(error: Any) -> Failed:
    about = error if isinstance(error, dict) else {"message": str(error)}
    code = about.get("code")
    return Failed(
        message=str(about.get("message", "the engine failed"))[:1_000],
        retryable=not (isinstance(code, int) and 400 <= code < 500),
    )
