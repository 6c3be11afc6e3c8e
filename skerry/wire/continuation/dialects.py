"""How each engine is asked to go on with an answer that it did not begin.

Pure. Told by the engine's name in relay.json; a name that is not here continues nothing but what it
has not begun to answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from skerry.fleet.engine import EngineName

# Of an answer that may be continued: the engine whose dialect `skerry.client` goes on in when it
# loses the whole plane, relay included.
CONTINUATION_HEADER = "x-skerry-continuation"


class ChatWay(StrEnum):
    """How a chat is continued behind the beginning of the assistant's answer."""

    # `continue_final_message` with an assistant's message at the end: vLLM's words, and SGLang's.
    FINAL_MESSAGE = "final-message"
    # An assistant's message at the end is continued without being asked: llama.cpp.
    TRAILING_MESSAGE = "trailing-message"
    # A template always closes the assistant's message: TensorRT-LLM has `add_generation_prompt`
    # and no word for leaving the last message open.
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What the relay may ask of one engine.

    `counts_in_chunks`: it takes `stream_options.continuous_usage_stats`, so every chunk says how
    many tokens there are. `tells_all_ids`: over Generate no token comes without its id.
    `text_tokens_default` is the limit of a completion that names none, None where it is the room;
    `generate_tokens_default` that of a Generate request.
    """

    chat: ChatWay
    counts_in_chunks: bool = False
    tells_all_ids: bool = False
    text_tokens_default: int | None = None
    generate_tokens_default: int | None = None


# OpenAI's own limit of a completion (`/v1/completions`) without one.
_OPENAI_TOKENS = 16
# SGLang's of `/generate`, by which the replica host asks it.
_SGLANG_TOKENS = 128
_UNKNOWN = Dialect(chat=ChatWay.NONE)
DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        EngineName.VLLM: Dialect(
            chat=ChatWay.FINAL_MESSAGE,
            counts_in_chunks=True,
            tells_all_ids=True,
            text_tokens_default=_OPENAI_TOKENS,
            generate_tokens_default=_OPENAI_TOKENS,  # asked through `/v1/completions`
        ),
        EngineName.SGLANG: Dialect(
            chat=ChatWay.FINAL_MESSAGE,
            counts_in_chunks=True,
            tells_all_ids=True,
            text_tokens_default=_OPENAI_TOKENS,
            generate_tokens_default=_SGLANG_TOKENS,
        ),
        EngineName.TENSORRT_LLM: Dialect(chat=ChatWay.NONE, counts_in_chunks=True),
        EngineName.LLAMACPP: Dialect(chat=ChatWay.TRAILING_MESSAGE),
        # One event is one token there, always.
        EngineName.SIMULATED: Dialect(chat=ChatWay.FINAL_MESSAGE, tells_all_ids=True),
    }
)


def dialect_of(engine: str) -> Dialect:
    """Return the dialect of an engine by its name."""
    return DIALECTS.get(engine, _UNKNOWN)
