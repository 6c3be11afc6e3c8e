"""SGLang's own `/generate`: token ids, log probabilities with their ids, guides, cache salts.

Pure; the values implement `dialects.EngineDialect`. Written from the sources of SGLang 0.5.23 and
0.5.9, never run here. Its `/v1/completions` names tokens by their text alone, so this one is used.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    failed_with,
)
from workload_plane.replica_host.faults import invalid, unsupported
from workload_plane.replica_host.sampling import (
    check_candidates,
    check_guide,
    choice_regex,
    present,
    stop_texts,
    stop_token_ids,
)

# It knows no bound of its own; an event holds those of each of its tokens.
_TOP_N_MAX = 20
# What it takes; beyond it the refusal would come as a failure of an accepted request.
_SEED_MAX = 2**63 - 1
_REPETITION_PENALTY_MAX = 2.0
# Of a request that names none.
_MAX_TOKENS_DEFAULT = 128
# What it says it matched when its own arithmetic failed.
_NOT_A_NUMBER = "NaN happened"
_ABORT = "abort"
_MESSAGE_CHARS_MAX = 1_000
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repetition_penalty",
    "seed": "sampling_seed",
    "num_sequences": "n",
}
_STOPPING = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "ignore_eos": "ignore_eos",
    "include_stop_in_output": "no_stop_trim",
}
_GUIDES = {"json_schema": "json_schema", "regex": "regex", "ebnf_grammar": "ebnf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangDialect:
    """One release's words: the field for a cache's salt, and whether its events are deltas.

    Where they are not, each event holds the output from its beginning, as in 0.5.9: there the flag
    that makes deltas of them breaks its OpenAI streams.
    """

    salt_field: str
    tells_deltas: bool
    PATH: str = "/generate"

    def check(self, request: generation_pb2.GenerateRequest) -> None:
        """Raise RequestFault for what SGLang cannot honour."""
        sampling, stopping = request.sampling, request.stopping
        if request.kv.bypass_prefix_cache:
            raise unsupported("kv.bypass_prefix_cache", "give a kv.cache_salt of its own instead")
        if sampling.seed > _SEED_MAX:
            raise invalid("sampling.seed", f"must be at most {_SEED_MAX} with this engine")
        if sampling.HasField("top_p") and not sampling.top_p:
            raise invalid("sampling.top_p", "must be above 0 with this engine")
        penalty = sampling.repetition_penalty
        if sampling.HasField("repetition_penalty") and not 0 < penalty <= _REPETITION_PENALTY_MAX:
            most = f"{_REPETITION_PENALTY_MAX:g}"
            raise invalid("sampling.repetition_penalty", f"0 < it <= {most} with this engine")
        has_most = stopping.HasField("max_tokens")
        most_tokens = stopping.max_tokens if has_most else _MAX_TOKENS_DEFAULT
        if stopping.min_tokens > most_tokens:
            said = "max_tokens" if has_most else "its default without max_tokens"
            raise invalid("stopping.min_tokens", f"must be at most {most_tokens}, {said}")
        if not self.tells_deltas and sampling.num_sequences > 1:
            # It aborts the request's own id, and runs the others to their end with nobody reading.
            raise unsupported("sampling.num_sequences", "0.5.9 cannot cancel several; use 0.5.23")
        check_candidates(request.response, _TOP_N_MAX)
        check_guide(request.guided)

    def body(self, request: generation_pb2.GenerateRequest, served_name: str) -> Mapping[str, Any]:
        """Return the body for `/generate`, which serves one model and takes no name of it."""
        del served_name
        values: dict[str, Any] = {"stream": True, "sampling_params": _sampling(request)}
        if request.WhichOneof("input") == "prompt":
            values["text"] = request.prompt
        else:
            values["input_ids"] = list(request.token_ids.ids)
        if request.response.return_output_logprobs:
            values["return_logprob"] = True
            values["top_logprobs_num"] = request.response.output_candidates.top_n
            values["return_text_in_logprobs"] = True
        if request.lora_name:
            values["lora_path"] = request.lora_name  # a name, of those given at its start
        if request.kv.cache_salt:
            values[self.salt_field] = request.kv.cache_salt
        return values

    def reader(self, request: generation_pb2.GenerateRequest) -> "SglangReader":
        """Return the reader of the answer to that request."""
        return SglangReader(request, tells_deltas=self.tells_deltas)

    def capabilities(self) -> model_pb2.GenerationCapabilities:
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


SGLANG = SglangDialect(salt_field="cache_salt", tells_deltas=True)
SGLANG_0_5_9 = SglangDialect(salt_field="extra_key", tells_deltas=False)


class SglangReader:
    """Reads one stream of `/generate`; every event counts the tokens of its output so far."""

    __slots__ = (
        "_candidates",
        "_counts",
        "_is_one",
        "_seen",
        "_stop_tokens",
        "_stops",
        "_tells_deltas",
    )

    def __init__(self, request: generation_pb2.GenerateRequest, *, tells_deltas: bool) -> None:
        """Expect the answer to that request."""
        response = request.response
        self._candidates = (
            response.output_candidates.top_n if response.return_output_logprobs else 0
        )
        self._stops = frozenset(stop_texts(request))
        self._stop_tokens = frozenset(stop_token_ids(request))
        self._is_one = request.sampling.num_sequences <= 1
        self._tells_deltas = tells_deltas
        self._seen: dict[int, tuple[int, int]] = {}
        self._counts: dict[int, Counted] = {}

    def read(self, event: bytes) -> list[EngineSaid]:
        """Return what one event says; raises ValueError or KeyError when it is not SGLang's."""
        if event == b"[DONE]":
            counted = self.counted_so_far()
            return [counted, Done()] if counted else [Done()]
        values = json.loads(event)
        if not isinstance(values, dict):
            raise ValueError("an event that is no object")
        if "error" in values:
            return [_refusal(values["error"])]
        index, about = int(values.get("index") or 0), values["meta_info"]
        finish = about.get("finish_reason")
        # Before its counts are taken: an abort's are of an empty prompt that it put in its place.
        if finish and (failed := _failure(finish)):
            return [failed]
        if finish and finish.get("type") == _ABORT:
            return [self._ending(index, finish)]  # the whole text comes again with it
        self._counts[index] = Counted(
            prompt_tokens=int(about.get("prompt_tokens") or 0),
            completion_tokens=int(about.get("completion_tokens") or 0),
            cached_prompt_tokens=about.get("cached_tokens"),
        )
        delta = self._delta(index, values, about)
        said: list[EngineSaid] = [delta] if delta.text or delta.tokens else []
        if finish:
            said.append(self._ending(index, finish))
        return said

    def counted_so_far(self) -> Counted | None:
        """Return the tokens of what was read; None before the first event."""
        counts = tuple(self._counts.values())
        if not counts:
            return None
        return Counted(
            prompt_tokens=max(one.prompt_tokens for one in counts),
            completion_tokens=sum(one.completion_tokens for one in counts),
            # Several sequences find cached what the request itself computed first.
            cached_prompt_tokens=counts[0].cached_prompt_tokens if self._is_one else None,
        )

    def _delta(self, index: int, values: Mapping[str, Any], about: Mapping[str, Any]) -> Delta:
        text, ids = values.get("text") or "", values.get("output_ids") or ()
        chosen = about.get("output_token_logprobs") or ()
        others = about.get("output_top_logprobs") or ()
        if not self._tells_deltas:
            chars, tokens = self._seen.get(index, (0, 0))
            self._seen[index] = (len(text), len(ids))
            text, ids = text[chars:], ids[tokens:]
            chosen, others = chosen[tokens:], others[tokens:]
        pieces = tuple(
            self._piece(
                int(number),
                chosen[place] if place < len(chosen) else None,
                others[place] if place < len(others) else None,
                text if len(ids) == 1 else "",
            )
            for place, number in enumerate(ids)
        )
        return Delta(output_index=index, text=text, tokens=pieces)

    def _piece(
        self, number: int, chosen: list[Any] | None, others: list[Any] | None, text: str
    ) -> TokenPiece:
        if chosen is None or chosen[1] != number:
            return TokenPiece(id=number, text=text)
        best = (others or [])[: self._candidates]
        return TokenPiece(
            id=number,
            text=chosen[2] or "",
            logprob=chosen[0],
            candidates=tuple(TokenPiece(id=o[1], text=o[2] or "", logprob=o[0]) for o in best),
        )

    def _ending(self, index: int, finish: Mapping[str, Any]) -> Ended:
        # An end-of-sequence token is matched like one that was asked for.
        matched = finish.get("matched")
        reason = {
            "length": generation_pb2.FINISH_REASON_LENGTH,
            _ABORT: generation_pb2.FINISH_REASON_CANCELLED,
        }.get(finish.get("type", ""), generation_pb2.FINISH_REASON_STOP)
        return Ended(
            output_index=index,
            reason=reason,
            stop_text=matched if isinstance(matched, str) and matched in self._stops else "",
            stop_token=(
                matched if isinstance(matched, int) and matched in self._stop_tokens else None
            ),
        )


def _sampling(request: generation_pb2.GenerateRequest) -> dict[str, Any]:
    sampling = request.sampling
    values = dict(present(sampling, _SAMPLING)) | dict(present(request.stopping, _STOPPING))
    if sampling.HasField("top_k"):
        values["top_k"] = sampling.top_k if sampling.top_k > 0 else -1  # its word for: all of them
    if stops := stop_texts(request):
        values["stop"] = stops
    if tokens := stop_token_ids(request):
        values["stop_token_ids"] = tokens
    guided = request.guided
    match guided.WhichOneof("guide"):
        case None:
            pass
        case "json_object":
            values["json_schema"] = '{"type": "object"}'
        case "choice":
            values["regex"] = choice_regex(guided.choice.choices)
        case "structural_tag":
            values["structural_tag"] = guided.structural_tag
        case kind:
            values[_GUIDES[kind]] = getattr(guided, kind)
    return values


def _failure(finish: Mapping[str, Any]) -> Failed | None:
    """Return the failure in an ending, None where it is one that was meant."""
    if finish.get("matched") == _NOT_A_NUMBER:
        return Failed(message="the engine computed no number (NaN)", retryable=True)
    status = finish.get("status_code")
    if finish.get("type") != _ABORT or status is None:
        return None
    message = str(finish.get("message") or "the engine gave the request up")
    return failed_with(int(status), message[:_MESSAGE_CHARS_MAX])


def _refusal(error: Any) -> Failed:
    """Return what it found wrong with a request, which it says in the stream's place."""
    about = error if isinstance(error, dict) else {"message": error}
    code = about.get("code")
    message = str(about.get("message", "the engine failed"))[:_MESSAGE_CHARS_MAX]
    return failed_with(code if isinstance(code, int) else None, message, unknown_retryable=False)
