"""Why a stream is not continued: the reasons, and what the client is told of each.

Pure. A reason is also a metric's label, so there are few and they are fixed.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

ERROR_CODE = "stream_not_continued"


class Reason(StrEnum):
    """Why a stream that broke ends with an error."""

    GUIDED = "guided"
    SEVERAL = "several-outputs"
    SEED = "seed"
    LOGPROBS = "logprobs"
    TOOL_CALL = "tool-call"
    REASONING = "reasoning"
    PROMPT = "prompt"
    TOKEN_IDS = "token-ids"
    ENGINE = "engine"
    TOO_LONG = "too-long"
    MEMORY = "memory"
    UNREADABLE = "unreadable"
    SUSPECT = "suspect"
    TOO_OFTEN = "too-often"
    NOWHERE = "nowhere"
    REFUSED = "refused"


_MEANINGS = {
    Reason.GUIDED: "guided decoding (response_format, grammars, choices) cannot begin in the"
    " middle of an answer",
    Reason.SEVERAL: "several answers to one request (n, best_of, beams, a list of prompts) cannot"
    " be continued together",
    Reason.SEED: "the request fixes a seed with a temperature above 0, and another replica's dice"
    " would fall otherwise",
    Reason.LOGPROBS: "log probabilities of a prompt, or with positions in the text, would begin"
    " anew",
    Reason.TOOL_CALL: "a tool call had begun",
    Reason.REASONING: "reasoning had begun, and an engine takes none back",
    Reason.PROMPT: "the prompt's form (a list, token ids, an echo, a suffix, a last message in"
    " parts) leaves no place for what was answered",
    Reason.TOKEN_IDS: "the prompt is token ids, and the engine did not tell every token's",
    Reason.ENGINE: "this deployment's engine cannot go on with a chat",
    Reason.TOO_LONG: "the answer had outgrown what is kept of a stream",
    Reason.MEMORY: "too many streams were held at once for this one to be kept",
    Reason.UNREADABLE: "the engine's events could not be read",
    Reason.SUSPECT: "two replicas in a row were lost while they worked on this request; it is not"
    " tried on a third",
    Reason.TOO_OFTEN: "it had been continued as often as a stream may be",
    Reason.NOWHERE: "no replica in any plane took it over in time",
    Reason.REFUSED: "the engine that was to go on refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why not, and what more is known of it."""

    reason: Reason
    detail: str = ""

    @property
    def message(self) -> str:
        """Return what the client is told."""
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"the replica was lost mid-stream and the answer cannot be continued:"
            f" {_MEANINGS[self.reason]}{more}; ask again for a whole answer"
        )


def error_event(refusal: Refusal) -> bytes:
    """Return the event with which a stream ends that is not continued, in OpenAI's shape."""
    error = {
        "message": refusal.message,
        "type": "server_error",
        "param": None,
        "code": ERROR_CODE,
        "reason": refusal.reason.value,
    }
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
