"""What a load generator is to send, and when: by a rate or by a trace; pure.

`load` sends what `plan_arrivals` yields. The same plan yields the same requests.
"""

import functools
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from skerry.client.gateways import Request, RequestKind
from skerry.client.load_trace import TracedRequest
from skerry.plumbing.errors import InvalidInput

RATE_PER_SECOND_MAX = 2_000.0  # one Python process sends no more
SECONDS_MAX = 86_400.0
# 1,000,000 records of 500 bytes are the memory of a small machine; a day at 10/s stays below.
RECORDS_MAX = 1_000_000
IN_FLIGHT_MAX = 1_024
IN_FLIGHT_HARD_MAX = 16_384  # sockets of one process
SPEED_MAX = 1_000.0

PROMPTS = (
    "Tell me a story about a small boat.",
    "What does the lighthouse keeper do at night?",
    "Why is the sea salty?",
    "Write one sentence about the wind.",
    "Who lives on the island?",
    "Describe a quiet morning.",
)
# About one token each for every usual vocabulary: a trace's prompt has as many words as tokens.
_WORDS = tuple(
    re.findall(
        r"\w+",
        """the of and to in is that for it was on are as with they at be this from have or one had
        by word but not what all were we when your can said there use an each which she do how their
        if will up other about out many then them these so some her would make like him into time
        has look two more write go see number no way could people my than first water been call""",
    )
)
_BLOCK_TOKENS = 512  # of a trace's hash_ids
_BLOCKS_KEPT = 4_096  # texts of blocks: 3 kB each

DEFAULT_MIX: tuple[tuple[RequestKind, float], ...] = (
    (RequestKind.CHAT_STREAM, 0.5),
    (RequestKind.GENERATE, 0.35),
    (RequestKind.CHAT, 0.15),
)


class Arrivals(StrEnum):
    """How requests are spread over time at a rate."""

    POISSON = "poisson"  # as users that know nothing of one another come
    CONSTANT = "constant"


class Spread(StrEnum):
    """At which gateway requests begin."""

    EVEN = "even"  # at each in turn, as users all over the world do
    NEAREST = "nearest"  # at the nearest that lives, as one program does


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send: mean rate or a trace, how long at most, which kinds in which proportion."""

    model: str
    rate_per_second: float = 1.0
    seconds: float
    seed: int = 1
    mix: tuple[tuple[RequestKind, float], ...] = DEFAULT_MIX
    max_tokens: int = 32
    prompts: tuple[str, ...] = PROMPTS
    arrivals: Arrivals = Arrivals.POISSON
    spread: Spread = Spread.EVEN
    in_flight_max: int = IN_FLIGHT_MAX
    deadline_seconds: float = 120.0
    trace: tuple[TracedRequest, ...] = ()
    speed: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a plan that sends nothing or more than a process can."""
        if not 0 < self.rate_per_second <= RATE_PER_SECOND_MAX:
            raise InvalidInput(f"the rate must be above 0 and at most {RATE_PER_SECOND_MAX:g}/s")
        if not 0 < self.seconds <= SECONDS_MAX:
            raise InvalidInput(f"the time must be above 0 and at most {SECONDS_MAX:g} s")
        if sum(weight for _, weight in self.mix) <= 0 or any(w < 0 for _, w in self.mix):
            raise InvalidInput("the mix needs weights of at least 0 that are not all 0")
        if not 1 <= self.in_flight_max <= IN_FLIGHT_HARD_MAX:
            raise InvalidInput(f"requests in flight must be 1..{IN_FLIGHT_HARD_MAX}")
        if not 0 < self.deadline_seconds <= SECONDS_MAX:
            raise InvalidInput("the deadline must be above 0 and at most a day")
        if not 0 < self.speed <= SPEED_MAX:
            raise InvalidInput(f"the speed must be above 0 and at most {SPEED_MAX:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request to be: when after the start, what, and at which gateway it begins.

    `preferred` is a gateway's index, None for the nearest.
    """

    at_seconds: float
    request: Request
    preferred: int | None = None


def plan_arrivals(plan: LoadPlan, gateways: int) -> Iterator[Arrival]:
    """Yield the requests of a plan in order of time; the same for the same seed."""
    chance = random.Random(plan.seed)
    moments = _traced(plan) if plan.trace else _timed(plan, chance)
    kinds = [kind for kind, _ in plan.mix]
    weights = [weight for _, weight in plan.mix]
    for number, (at, traced) in enumerate(moments):
        if at > plan.seconds or number >= RECORDS_MAX:
            return
        kind = chance.choices(kinds, weights)[0]
        if traced is None:
            prompt, max_tokens = chance.choice(plan.prompts), plan.max_tokens
        else:
            prompt, max_tokens = prompt_of(traced, number), max(1, traced.output_tokens)
        request = Request(
            kind=kind,
            model=plan.model,
            prompt=prompt,
            max_tokens=max_tokens,
            # The trace says how long answers were, not how long they might have been.
            ignore_eos=traced is not None,
        )
        preferred = number % gateways if plan.spread is Spread.EVEN else None
        yield Arrival(at_seconds=at, request=request, preferred=preferred)


def prompt_of(traced: TracedRequest, number: int) -> str:
    """Return a prompt of as many words as the request had tokens; equal blocks, equal text."""
    blocks = [_block_text(block) for block in traced.blocks]
    words = " ".join(blocks).split(" ")[: traced.input_tokens] if blocks else []
    missing = traced.input_tokens - len(words)
    if missing > 0:
        words += random.Random(f"request {number}").choices(_WORDS, k=missing)
    return " ".join(words)


def _timed(plan: LoadPlan, chance: random.Random) -> Iterator[tuple[float, None]]:
    if plan.arrivals is Arrivals.CONSTANT:
        for number in itertools.count():
            yield number / plan.rate_per_second, None
    at = 0.0
    while True:
        at += chance.expovariate(plan.rate_per_second)
        yield at, None


def _traced(plan: LoadPlan) -> Iterator[tuple[float, TracedRequest]]:
    start = plan.trace[0].at_seconds
    for traced in plan.trace:
        yield (traced.at_seconds - start) / plan.speed, traced


@functools.lru_cache(maxsize=_BLOCKS_KEPT)
def _block_text(block: int) -> str:
    return " ".join(random.Random(f"block {block}").choices(_WORDS, k=_BLOCK_TOKENS))
