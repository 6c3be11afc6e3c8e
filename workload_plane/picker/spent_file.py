"""spent.json: what API keys with a bound on tokens used, for the picker's next run.

A budget of a month must outlast the picker. What was used since the file was written last is
forgotten with a picker that is killed.
"""

import json
from collections.abc import Sequence

from skerry.fleet.api_key import BUDGET_TOKENS_MAX
from skerry.fleet.token_budget import KeySpent
from skerry.plumbing.errors import Corrupt

SPENT_FORMAT = 1
SPENT_BYTES_MAX = 16 * 1024 * 1024

# A number past all bounds, or a nest without end, is damage as any other.
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def render_spent(spent: Sequence[KeySpent]) -> bytes:
    """Return the file's content."""
    counts = [[one.key, one.period, one.tokens] for one in spent]
    return json.dumps({"format": SPENT_FORMAT, "spent": counts}).encode() + b"\n"


def parse_spent(data: bytes) -> tuple[KeySpent, ...]:
    """Return what the bytes say; raises Corrupt for anything else than the picker's file."""
    try:
        values = json.loads(data)
        if values["format"] != SPENT_FORMAT:
            raise ValueError(f"format {values['format']!r} is not {SPENT_FORMAT}")
        return tuple(_spent(*one) for one in values["spent"])
    except _DAMAGE as error:
        raise Corrupt(f"not a file of tokens spent: {error!r}") from None


def _spent(key: object, period: object, tokens: object) -> KeySpent:
    if not isinstance(tokens, int) or not 0 <= tokens <= BUDGET_TOKENS_MAX:
        raise ValueError(f"{tokens!r} is no number of tokens")
    return KeySpent(key=str(key), period=str(period), tokens=tokens)
