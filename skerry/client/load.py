"""Open-loop load: requests leave at seeded times whatever the answers do, each in a ledger.

`skerry load`, the demo and the benchmarks run it. An open loop shows what users would see: a
slow or dead fleet does not slow its users down.
"""

import asyncio
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skerry.client.gateways import Request, RequestKind, Result
from skerry.client.inference import InferenceClient
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.tasks import sleep_unless_stopped

RATE_PER_SECOND_MAX = 2_000.0  # one Python process sends no more
SECONDS_MAX = 86_400.0
# 1,000,000 records of 300 bytes are the memory of a small machine; a day at 10/s stays below.
RECORDS_MAX = 1_000_000
# Past this the sender itself is the limit: a request is recorded as failed instead of sent.
IN_FLIGHT_MAX = 1_024

PROMPTS = (
    "Tell me a story about a small boat.",
    "What does the lighthouse keeper do at night?",
    "Why is the sea salty?",
    "Write one sentence about the wind.",
    "Who lives on the island?",
    "Describe a quiet morning.",
)

DEFAULT_MIX: tuple[tuple[RequestKind, float], ...] = (
    (RequestKind.CHAT_STREAM, 0.5),
    (RequestKind.GENERATE, 0.35),
    (RequestKind.CHAT, 0.15),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send: mean rate, how long at most, which kinds in which proportion."""

    model: str
    rate_per_second: float
    seconds: float
    seed: int = 1
    mix: tuple[tuple[RequestKind, float], ...] = DEFAULT_MIX
    max_tokens: int = 32
    prompts: tuple[str, ...] = PROMPTS

    def __post_init__(self) -> None:
        """Refuse a plan that sends nothing or more than a process can."""
        if not 0 < self.rate_per_second <= RATE_PER_SECOND_MAX:
            raise InvalidInput(f"the rate must be above 0 and at most {RATE_PER_SECOND_MAX:g}/s")
        if not 0 < self.seconds <= SECONDS_MAX:
            raise InvalidInput(f"the time must be above 0 and at most {SECONDS_MAX:g} s")
        if sum(weight for _, weight in self.mix) <= 0 or any(w < 0 for _, w in self.mix):
            raise InvalidInput("the mix needs weights of at least 0 that are not all 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request to be: when after the start, what, and at which gateway it begins."""

    at_seconds: float
    request: Request
    preferred: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request of the ledger; times in seconds since the ledger began."""

    number: int
    kind: RequestKind
    started_at: float
    first_token_at: float | None
    ended_at: float
    gateway: str
    preferred: str
    attempts: int
    result: Result
    tokens: int
    error: str = ""

    @property
    def ttft_seconds(self) -> float | None:
        """Return the time to the first token, None when none came."""
        return None if self.first_token_at is None else self.first_token_at - self.started_at


@dataclass(slots=True)
class Ledger:
    """Every request that was sent, in the order of their ends."""

    clock: Clock
    began_at: float = 0.0
    records: list[RequestRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin counting time now."""
        self.began_at = self.clock.monotonic()

    def now(self) -> float:
        """Return the seconds since the ledger began."""
        return self.clock.monotonic() - self.began_at


def plan_arrivals(plan: LoadPlan, gateways: int) -> Iterator[Arrival]:
    """Yield the requests of a plan in order of time; the same for the same seed."""
    chance = random.Random(plan.seed)
    kinds = [kind for kind, _ in plan.mix]
    weights = [weight for _, weight in plan.mix]
    at = 0.0
    for number in itertools.count():
        at += chance.expovariate(plan.rate_per_second)
        if at > plan.seconds or number >= RECORDS_MAX:
            return
        request = Request(
            kind=chance.choices(kinds, weights)[0],
            model=plan.model,
            prompt=chance.choice(plan.prompts),
            max_tokens=plan.max_tokens,
        )
        yield Arrival(at_seconds=at, request=request, preferred=number % gateways)


async def run_load(
    plan: LoadPlan, client: InferenceClient, ledger: Ledger, clock: Clock, stop: asyncio.Event
) -> None:
    """Send the plan's requests at their times until it is over or `stop` is set.

    Returns once every answer has ended; nothing that was sent is missing in the ledger.
    """
    start = ledger.now()
    in_flight: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        for arrival in plan_arrivals(plan, len(client.gateways)):
            pause = start + arrival.at_seconds - ledger.now()
            if await sleep_unless_stopped(max(pause, 0.0), clock, stop):
                return
            if len(in_flight) >= IN_FLIGHT_MAX:
                _record_unsent(arrival, client, ledger)
                continue
            task = group.create_task(send_one(arrival, client, ledger))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)


async def send_one(
    arrival: Arrival, client: InferenceClient, ledger: Ledger, begun: asyncio.Event | None = None
) -> None:
    """Send one request now and record what became of it; `begun` is set at its first token."""
    started = ledger.now()
    outcome = await client.send(arrival.request, arrival.preferred, begun)
    ttft = outcome.ttft_seconds
    ledger.records.append(
        RequestRecord(
            number=len(ledger.records) + 1,
            kind=arrival.request.kind,
            started_at=started,
            first_token_at=None if ttft is None else started + ttft,
            ended_at=ledger.now(),
            gateway=outcome.gateway,
            preferred=_preferred_name(arrival, client),
            attempts=outcome.attempts,
            result=outcome.result,
            tokens=outcome.tokens,
            error=outcome.error,
        )
    )


def write_ledger(path: Path, records: Sequence[RequestRecord]) -> None:
    """Write one JSON object per line and request, in the order of their ends."""
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")


def _record_unsent(arrival: Arrival, client: InferenceClient, ledger: Ledger) -> None:
    now = ledger.now()
    ledger.records.append(
        RequestRecord(
            number=len(ledger.records) + 1,
            kind=arrival.request.kind,
            started_at=now,
            first_token_at=None,
            ended_at=now,
            gateway="",
            preferred=_preferred_name(arrival, client),
            attempts=0,
            result=Result.FAILED,
            tokens=0,
            error=f"not sent: {IN_FLIGHT_MAX} requests are in flight already",
        )
    )


def _preferred_name(arrival: Arrival, client: InferenceClient) -> str:
    return client.gateways[arrival.preferred % len(client.gateways)].name
