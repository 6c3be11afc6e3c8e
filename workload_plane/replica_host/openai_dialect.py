"""OpenAI's `/v1/completions` with the extensions that engines share.

Pure; implements `dialects.EngineDialect`, for an engine of which no more is known: text only, no
token ids come back. `vllm_dialect` and `trtllm_dialect` are written over it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from skerry.api.openengine.v1 import generation_pb2, model_pb2
from workload_plane.replica_host.deltas import Counted, Delta, Done, Ended, EngineSaid, failed_with
from workload_plane.replica_host.faults import unsupported
from workload_plane.replica_host.sampling import present, stop_texts, stop_token_ids

PATH = "/v1/completions"

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
    "num_sequences": "n",
}
_STOPPING = {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "ignore_eos": "ignore_eos"}
# Whatever else an engine says is that it met its end. "timeout" is a deadline of the engine's own.
_REASONS = {
    "length": generation_pb2.FINISH_REASON_LENGTH,
    "abort": generation_pb2.FINISH_REASON_CANCELLED,
    "cancelled": generation_pb2.FINISH_REASON_CANCELLED,
    "timeout": generation_pb2.FINISH_REASON_CANCELLED,
}


def check(request: generation_pb2.GenerateRequest) -> None:
    """Raise RequestFault for what the shared API has no word for."""
    if request.stopping.include_stop_in_output:
        raise unsupported("stopping.include_stop_in_output", "engines spell it differently")
    if request.response.return_output_logprobs:
        raise unsupported("response.return_output_logprobs", "this engine's API has no token ids")
    if request.kv.cache_salt:
        raise unsupported("kv.cache_salt", "not part of the shared API")
    if request.kv.bypass_prefix_cache:
        raise unsupported("kv.bypass_prefix_cache", "not part of the shared API")
    guide = request.guided.WhichOneof("guide")
    if guide is not None:
        raise unsupported(f"guided.{guide}", "use the chat API over HTTP, or another engine")


def body(request: generation_pb2.GenerateRequest, served_name: str) -> Mapping[str, Any]:
    """Return the body for `/v1/completions`."""
    by_text = request.WhichOneof("input") == "prompt"
    values: dict[str, Any] = {
        "model": served_name,
        "prompt": request.prompt if by_text else list(request.token_ids.ids),
        "stream": True,
        "stream_options": {"include_usage": True},
        **dict(present(request.sampling, _SAMPLING)),
        **dict(present(request.stopping, _STOPPING)),
    }
    if stops := stop_texts(request):
        values["stop"] = stops
    if tokens := stop_token_ids(request):
        values["stop_token_ids"] = tokens
    return values


def reader(request: generation_pb2.GenerateRequest) -> "OpenAiReader":
    """Return the reader of the answer to that request."""
    del request
    return OpenAiReader()


def capabilities() -> model_pb2.GenerationCapabilities:
    """Return what Generate takes in this dialect."""
    return model_pb2.GenerationCapabilities(
        prompt_logprobs=model_pb2.LogprobCapabilities(supported=False),
        output_logprobs=model_pb2.LogprobCapabilities(supported=False),
        guided_decoding=model_pb2.GuidedDecodingCapabilities(supported=False),
        supports_priority=False,
        supports_stop_in_output=False,
        supports_cache_salt=False,
        supports_prefix_cache_bypass=False,
    )


class OpenAiReader:
    """Reads one stream of completions; has nothing to remember."""

    __slots__ = ()

    def read(self, event: bytes) -> list[EngineSaid]:
        """Return what one event says; raises ValueError when it is not the API's."""
        return read_event(event, _text_delta)

    def counted_so_far(self) -> Counted | None:
        """Return None: the API counts at the end only."""
        return None


def read_event(
    event: bytes, delta_of: Callable[[int, Mapping[str, Any]], Delta | None]
) -> list[EngineSaid]:
    """Return what one event says, each choice's delta read by `delta_of`; raises ValueError."""
    if event == b"[DONE]":
        return [Done()]
    values = json.loads(event)
    if not isinstance(values, dict):
        raise ValueError("an event that is no object")
    if "error" in values:
        about = values["error"]
        told = about if isinstance(about, dict) else {"message": about}
        code = told.get("code")
        status = code if isinstance(code, int) else None
        return [failed_with(status, str(told.get("message"))[:1_000])]
    said: list[EngineSaid] = []
    for choice in values.get("choices") or ():
        index = int(choice.get("index", 0))
        if delta := delta_of(index, choice):
            said.append(delta)
        said += _ending(index, choice)
    if usage := values.get("usage"):
        said.append(_counted(usage))
    return said


def _text_delta(index: int, choice: Mapping[str, Any]) -> Delta | None:
    text = choice.get("text")
    return Delta(output_index=index, text=text) if text else None


def _ending(index: int, choice: Mapping[str, Any]) -> list[EngineSaid]:
    said: list[EngineSaid] = []
    if reason := choice.get("finish_reason"):
        stop = choice.get("stop_reason")
        said.append(
            Ended(
                output_index=index,
                reason=_REASONS.get(reason, generation_pb2.FINISH_REASON_STOP),
                stop_text=stop if isinstance(stop, str) else "",
                # A token that was asked for as a stop, where the engine tells which.
                stop_token=stop if isinstance(stop, int) else None,
            )
        )
    return said


def _counted(usage: Mapping[str, Any]) -> Counted:
    details = usage.get("prompt_tokens_details") or {}
    return Counted(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        cached_prompt_tokens=details.get("cached_tokens"),
    )
