"""What was asked of each deployment since the picker began: the autoscaler's counters. PURE.

The agent asks for them every few seconds, on the picker's socket; both ends of that answer are
here. Requests of users and those that a peer sent on are counted apart: the fleet's sum must count
each request once, where it came in.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from skerry.fleet.answers import FIRST_TOKEN_SECONDS
from skerry.fleet.token_budget import KeySpent
from skerry.plumbing.errors import Corrupt

COUNTERS_FORMAT = 1
COUNTERS_BYTES_MAX = 4 * 1024 * 1024
# What is slower than the last is counted past it.
FIRST_BYTE_SECONDS = FIRST_TOKEN_SECONDS


@dataclass(slots=True, kw_only=True)
class Arrivals:
    """Requests from one side, users or peers: all that came, and those under way.

    `prompt_tokens` are estimated from the bodies, without what the chosen replica has in its cache.
    What went to a peer because no replica is here is `away`: the peer's work, and no need here.
    """

    requests: int = 0
    prompt_tokens: float = 0.0
    away_requests: int = 0
    away_prompt_tokens: float = 0.0
    open: int = 0


@dataclass(slots=True, kw_only=True)
class Answers:
    """What became of requests that no peer had, whoever asked.

    `judged` are streams whose first byte is known, `good` those where it came in the objective's
    time; it may be the answer's head, before the first token. `failed` got 429, 5xx or nothing.
    """

    finished: int = 0
    judged: int = 0
    good: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentCounters:
    """The counters of one deployment at a moment.

    `here` are requests at replicas of this plane, `waiting` those in the waiting room, and
    `pending_tokens` of prompts that replicas here have not read yet, estimated. `first_bytes` are
    how many came within each of FIRST_BYTE_SECONDS and after the one before.
    """

    users: Arrivals
    forwarded: Arrivals
    answers: Answers
    here: int = 0
    waiting: int = 0
    pending_tokens: float = 0.0
    first_bytes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """All that one run of a picker counted; another `run` began at 0 again."""

    run: int
    deployments: Mapping[str, DeploymentCounters]
    spent: tuple[KeySpent, ...] = ()  # of API keys whose tokens are bounded


def render_counters(counters: Counters) -> bytes:
    """Return the answer's body."""
    values = {
        "format": COUNTERS_FORMAT,
        "run": counters.run,
        "deployments": {name: asdict(one) for name, one in sorted(counters.deployments.items())},
        "spent": [asdict(one) for one in counters.spent],
    }
    return json.dumps(values).encode()


def parse_counters(data: bytes) -> Counters:
    """Return what the bytes say; raises Corrupt for anything else than the picker's answer."""
    try:
        values = json.loads(data)
        if values["format"] != COUNTERS_FORMAT:
            raise ValueError(f"format {values['format']!r} is not {COUNTERS_FORMAT}")
        return Counters(
            run=int(values["run"]),
            deployments={
                str(name): _deployment(one) for name, one in values["deployments"].items()
            },
            spent=tuple(  # a picker of an earlier release counts none
                KeySpent(
                    key=str(one["key"]),
                    period=str(one["period"]),
                    tokens=int(_number(one["tokens"])),
                )
                for one in values.get("spent", ())
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(f"not a picker's counters: {error!r}") from None


def _deployment(values: Mapping[str, object]) -> DeploymentCounters:
    return DeploymentCounters(
        users=Arrivals(**_numbers(values["users"], Arrivals)),  # type: ignore[arg-type]
        forwarded=Arrivals(**_numbers(values["forwarded"], Arrivals)),  # type: ignore[arg-type]
        answers=Answers(**_numbers(values["answers"], Answers)),  # type: ignore[arg-type]
        here=int(_number(values["here"])),
        waiting=int(_number(values["waiting"])),
        pending_tokens=_number(values["pending_tokens"]),
        # A picker of an earlier release tells none.
        first_bytes=_first_bytes(values.get("first_bytes", ())),
    )


def _first_bytes(values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or len(values) not in (0, len(FIRST_BYTE_SECONDS) + 1):
        raise ValueError("not the counts of first bytes")
    return tuple(map(_number, values))


def _numbers(values: object, kind: type) -> dict[str, float]:
    if not isinstance(values, dict):
        raise ValueError("not a group of counters")
    return {field.name: _number(values[field.name]) for field in fields(kind)}


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no count")
    return value
