"""Fields of a request that every dialect writes alike, and the checks that no engine differs in.

Pure. Called by the service first, by the dialects for the copying.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from skerry.api.openengine.v1 import generation_pb2
from workload_plane.replica_host.faults import invalid, model_not_found, unsupported

REQUEST_ID_CHARS_MAX = 256
STOP_CONDITIONS_MAX = 16
TEMPERATURE_MAX = 100.0
# Guides that are a text; of an empty one engines make none, and the answer would be unguided.
_TEXTS = ("json_schema", "regex", "ebnf_grammar", "structural_tag")
# What a literal needs in every engine's regular expressions; Python's `re.escape` writes more than
# the stricter ones of them take.
_LITERAL = str.maketrans(
    {sign: f"\\{sign}" for sign in r"\.^$|?*+()[]{}"} | {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
)


def check_request(
    request: generation_pb2.GenerateRequest,
    *,
    served_name: str,
    sequences_max: int,
    adapters: Collection[str] = (),
    aliases: Collection[str] = (),
) -> None:
    """Raise RequestFault for what is wrong, or cannot be had, whatever the engine is.

    `adapters` are the LoRA adapters that a request may name, `aliases` what else the model is.
    """
    if request.model not in ("", served_name, *aliases):
        raise model_not_found(request.model, served_name)
    if len(request.request_id) > REQUEST_ID_CHARS_MAX:
        raise invalid("request_id", f"at most {REQUEST_ID_CHARS_MAX} characters")
    source = request.WhichOneof("input")
    if source is None:
        raise invalid("input", "set prompt or token_ids")
    if source == "token_ids" and not request.token_ids.ids:
        raise invalid("token_ids", "must hold at least one token")
    if source == "prompt" and not request.prompt:
        raise invalid("prompt", "must not be empty")
    if request.media:
        raise unsupported("media", "this replica takes text only")
    if request.lora_name and not adapters:
        raise unsupported("lora_name", "this replica has no adapters")
    if request.lora_name and request.lora_name not in adapters:
        known = ", ".join(sorted(adapters))
        raise invalid("lora_name", f"{request.lora_name[:64]!r} is none of {known}")
    if request.kv.HasField("session"):
        raise unsupported("kv.session", "this replica does prefill and decode itself")
    if request.response.return_prompt_logprobs:
        raise unsupported("response.return_prompt_logprobs", "not given by this engine")
    _check_numbers(request, sequences_max)


def present(message: Any, names: Mapping[str, str]) -> Iterable[tuple[str, Any]]:
    """Yield (the engine's name, value) for each of the message's optional fields that is set."""
    for field, engine_name in names.items():
        if message.HasField(field):
            yield engine_name, getattr(message, field)


def stop_texts(request: generation_pb2.GenerateRequest) -> list[str]:
    """Return the texts that end generation."""
    return [c.stop_text for c in request.stopping.conditions if c.stop_text]


def stop_token_ids(request: generation_pb2.GenerateRequest) -> list[int]:
    """Return the tokens that end generation."""
    conditions = request.stopping.conditions
    return [c.stop_token_id for c in conditions if c.WhichOneof("condition") == "stop_token_id"]


def check_candidates(response: generation_pb2.ResponseOptions, top_n_max: int) -> None:
    """Raise RequestFault for alternatives to a token other than the most likely ones."""
    selection = response.output_candidates.WhichOneof("selection")
    if selection not in (None, "top_n"):
        raise unsupported(f"response.output_candidates.{selection}", "only top_n can be had")
    if response.output_candidates.top_n > top_n_max:
        raise invalid("response.output_candidates.top_n", f"must be at most {top_n_max}")


def choice_regex(choices: Iterable[str]) -> str:
    """Return the regular expression of exactly these texts, for engines without choices."""
    return f"({'|'.join(choice.translate(_LITERAL) for choice in choices)})"


def check_guide(guided: generation_pb2.GuidedDecoding) -> None:
    """Raise RequestFault for a guide that no engine could follow."""
    guide = guided.WhichOneof("guide")
    if guide in _TEXTS and not getattr(guided, guide).strip():
        raise invalid(f"guided.{guide}", "is empty; leave it out where nothing is to guide")
    if guide == "json_schema":
        try:
            json.loads(guided.json_schema)
        except ValueError as error:
            raise invalid("guided.json_schema", f"is not JSON: {error}") from None
    if guide == "choice" and not guided.choice.choices:
        raise invalid("guided.choice", "needs at least one choice")


def _check_numbers(request: generation_pb2.GenerateRequest, sequences_max: int) -> None:
    sampling, stopping = request.sampling, request.stopping
    for name, least, most in (
        ("temperature", 0.0, TEMPERATURE_MAX),
        ("top_p", 0.0, 1.0),
        ("min_p", 0.0, 1.0),
        ("frequency_penalty", -2.0, 2.0),
        ("presence_penalty", -2.0, 2.0),
        ("repetition_penalty", 0.0, 10.0),
    ):
        value = getattr(sampling, name)
        if sampling.HasField(name) and (math.isnan(value) or not least <= value <= most):
            raise invalid(f"sampling.{name}", f"must be in {least:g}..{most:g}, not {value:g}")
    if sampling.HasField("num_sequences") and not 1 <= sampling.num_sequences <= sequences_max:
        raise invalid(
            "sampling.num_sequences", f"must be in 1..{sequences_max}, not {sampling.num_sequences}"
        )
    if stopping.HasField("max_tokens") and stopping.max_tokens < 1:
        raise invalid("stopping.max_tokens", "must be at least 1")
    if len(stopping.conditions) > STOP_CONDITIONS_MAX:
        raise invalid("stopping.conditions", f"at most {STOP_CONDITIONS_MAX}")
    for number, condition in enumerate(stopping.conditions):
        kind = condition.WhichOneof("condition")
        if kind is None or (kind == "stop_text" and not condition.stop_text):
            raise invalid(f"stopping.conditions[{number}]", "is empty")
