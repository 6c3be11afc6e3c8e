"""Closed-loop load on one endpoint, concurrency by concurrency: what one replica yields.

`skerry profile` runs it. So many requests are in flight at every moment of a step, each with a
prompt that neither this nor an earlier run has sent, so that no prefix cache makes the figures
better than they are.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import grpc.aio

from skerry.client.gateways import AttemptFailed, End, Gateway, Piece, Request, RequestKind
from skerry.client.generate_grpc import ask_generate
from skerry.fleet.engine import EngineProtocol
from skerry.fleet.profile import (
    CONCURRENCY_MAX,
    SECONDS_MAX,
    STEPS_MAX,
    ProfileStep,
    percentile,
)
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput, Unavailable
from skerry.plumbing.rpc import insecure_channel

# Of one step: 99 of 100 are known well by then, and the next step waits.
REQUESTS_MAX = 1_000
STEP_SECONDS_MAX = 3_600.0
TOKENS_MAX = 1_000_000  # of a prompt or an answer
# Of one request; past it the replica is overloaded or hangs, and the step tells nothing.
REQUEST_SECONDS_MAX = 300.0
_ERROR_CHARS_MAX = 200
_DONE = b"[DONE]"
# Short and common, so that most tokenisers make one token of each.
_WORDS = ("the", "sea", "and", "a", "boat", "wind", "light", "is", "on", "old", "man", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePlan:
    """What to send: concurrencies in rising order, tokens of each request, the time of a step.

    The prompts are of the `seed`: two runs with one seed send the same, which engines remember.
    """

    concurrencies: tuple[int, ...]
    prompt_tokens: int
    output_tokens: int
    seconds: float
    seed: str

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        levels = list(self.concurrencies)
        if not 1 <= len(levels) <= STEPS_MAX or levels != sorted(set(levels)):
            raise InvalidInput(f"concurrencies must be 1 to {STEPS_MAX} rising ones, not {levels}")
        if not 1 <= levels[0] <= levels[-1] <= CONCURRENCY_MAX:
            raise InvalidInput(f"a concurrency must be 1..{CONCURRENCY_MAX}, not {levels}")
        if not 1 <= self.prompt_tokens <= TOKENS_MAX:
            raise InvalidInput(f"the prompt's tokens must be 1..{TOKENS_MAX}")
        if not 2 <= self.output_tokens <= TOKENS_MAX:  # of one token nothing follows the first
            raise InvalidInput(f"the output's tokens must be 2..{TOKENS_MAX}")
        if not 0 < self.seconds <= STEP_SECONDS_MAX:
            raise InvalidInput(f"a step's time must be above 0 and at most {STEP_SECONDS_MAX:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Whom to ask: `HOST:PORT`, by which protocol, and the model's served name."""

    address: str
    model: str
    protocol: EngineProtocol = EngineProtocol.HTTP


@dataclass(slots=True)
class Sample:
    """One request: when it was sent, when each piece of its answer came, and what was counted."""

    sent_at: float
    pieces_at: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens_of_piece(self) -> float:
        """Return how many tokens a piece has: engines may send several at once."""
        return self.output_tokens / len(self.pieces_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a plan found: the steps that were whole, the mean request, and why it ended early."""

    steps: tuple[ProfileStep, ...]
    prompt_tokens: int
    output_tokens: int
    stopped: str = ""


async def measure(
    plan: ProfilePlan, at: Endpoint, clock: Clock, told: Callable[[ProfileStep], None]
) -> Measured:
    """Measure a plan at an endpoint, telling each step; Unavailable when not even one was whole.

    A step in which a request fails ends it: higher concurrencies would fail more.
    """
    steps: list[ProfileStep] = []
    samples: list[Sample] = []
    stopped = ""
    async with _asker(at, plan, clock) as asker:
        try:
            await asker.ask()  # the first of all, which finds caches cold, is not counted
            for concurrency in plan.concurrencies:
                found, seconds = await _step(asker, plan, concurrency, clock)
                steps.append(summarise_step(concurrency, found, seconds))
                samples += found
                told(steps[-1])
        except Unavailable as error:
            where = f"concurrency {plan.concurrencies[len(steps)]}"
            if not steps:
                raise Unavailable(f"{at.address} at {where}: {error.message}") from None
            stopped = f"{where} was not measured: {error.message}"
    return Measured(
        steps=tuple(steps),
        prompt_tokens=round(sum(s.prompt_tokens for s in samples) / len(samples)),
        output_tokens=round(sum(s.output_tokens for s in samples) / len(samples)),
        stopped=stopped,
    )


def summarise_step(concurrency: int, samples: list[Sample], until: float) -> ProfileStep:
    """Return the figures of a step; rates are of the time before `until`, when all were in flight.

    Times of requests are those of all of them.
    """
    began = min(sample.sent_at for sample in samples)
    seconds = max(until - began, 1e-9)
    ttft = [sample.pieces_at[0] - sample.sent_at for sample in samples]
    gaps = [
        after - before
        for sample in samples
        for before, after in zip(sample.pieces_at, sample.pieces_at[1:], strict=False)
    ]
    tpot = [
        (sample.pieces_at[-1] - sample.pieces_at[0]) / (sample.output_tokens - 1)
        for sample in samples
        if sample.output_tokens > 1
    ]
    tokens = sum(
        sample.tokens_of_piece * sum(1 for at in sample.pieces_at if at <= until)
        for sample in samples
    )
    prompts = sum(sample.prompt_tokens for sample in samples if sample.pieces_at[0] <= until)
    return ProfileStep(
        concurrency=concurrency,
        requests=len(samples),
        ttft_p50_seconds=percentile(ttft, 50),
        ttft_p99_seconds=percentile(ttft, 99),
        itl_samples=len(gaps),
        itl_p50_seconds=percentile(gaps, 50),
        itl_p99_seconds=percentile(gaps, 99),
        tpot_p99_seconds=percentile(tpot, 99),
        output_tokens_per_second=tokens / seconds,
        prompt_tokens_per_second=prompts / seconds,
    )


async def _step(
    asker: "Asker", plan: ProfilePlan, concurrency: int, clock: Clock
) -> tuple[list[Sample], float]:
    """Return the samples of a step, and when the first of its workers had no more to send."""
    until = clock.monotonic() + plan.seconds
    samples: list[Sample] = []
    ends: list[float] = []
    left = max(REQUESTS_MAX, concurrency)

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            samples.append(await asker.ask())
            if clock.monotonic() >= until:
                break
        ends.append(clock.monotonic())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except ExceptionGroup as errors:
        # Those of one step say much the same: the first is enough.
        refused, others = errors.split(Unavailable)
        if others is not None or refused is None:
            raise
        raise refused.exceptions[0] from None
    return samples, min(ends)


def prompts(plan: ProfilePlan) -> Iterator[str]:
    """Yield the plan's prompts: words by chance, of which the first few differ already."""
    chance = random.Random(plan.seed)
    while True:
        yield " ".join(chance.choices(_WORDS, k=plan.prompt_tokens))


class Asker(Protocol):
    """Sends the plan's requests to one endpoint, each with another prompt."""

    async def ask(self) -> Sample:
        """Return one request, answered to the end; Unavailable when it was not."""
        ...


@asynccontextmanager
async def _asker(at: Endpoint, plan: ProfilePlan, clock: Clock) -> AsyncIterator[Asker]:
    if at.protocol is EngineProtocol.OPENENGINE:
        async with insecure_channel(at.address) as channel:
            yield _GrpcAsker(channel, at, plan, clock)
        return
    # A connection each: llama.cpp ends one after 100 requests, and what is under way there fails.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield _HttpAsker(session, at, plan, clock)


class _GrpcAsker:
    """Asks by `openengine.v1` Generate."""

    def __init__(
        self, channel: grpc.aio.Channel, at: Endpoint, plan: ProfilePlan, clock: Clock
    ) -> None:
        self._channel = channel
        self._at = at
        self._plan = plan
        self._clock = clock
        self._prompts = prompts(plan)
        self._asked = 0

    async def ask(self) -> Sample:
        """Return one request, answered to the end; Unavailable when it was not."""
        self._asked += 1
        request = Request(
            kind=RequestKind.GENERATE,
            model=self._at.model,
            prompt=next(self._prompts),
            max_tokens=self._plan.output_tokens,
            temperature=0.0,
            ignore_eos=True,
        )
        gateway = Gateway(name=self._at.address, http="", grpc=self._at.address)
        request_id = f"profile-{self._plan.seed}-{self._asked}"
        sample = Sample(sent_at=self._clock.monotonic())
        counted = 0
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                async for item in ask_generate(self._channel, gateway, request, request_id):
                    if isinstance(item, Piece) and item.text:
                        sample.pieces_at.append(self._clock.monotonic())
                        counted += item.tokens
                    elif isinstance(item, End):
                        sample.prompt_tokens = item.prompt_tokens or 0
                        sample.output_tokens = item.output_tokens or 0
        except TimeoutError:
            raise Unavailable(f"not answered within {REQUEST_SECONDS_MAX:.0f} s") from None
        except AttemptFailed as error:
            raise Unavailable(str(error)[:_ERROR_CHARS_MAX]) from None
        if not sample.pieces_at:
            raise Unavailable("an answer had no token")
        sample.output_tokens = sample.output_tokens or counted
        sample.prompt_tokens = sample.prompt_tokens or self._plan.prompt_tokens
        return sample


class _HttpAsker:
    """Asks by OpenAI's completions, streamed."""

    def __init__(
        self, session: aiohttp.ClientSession, at: Endpoint, plan: ProfilePlan, clock: Clock
    ) -> None:
        self._session = session
        self._model = at.model
        self._url = f"http://{at.address}/v1/completions"
        self._plan = plan
        self._clock = clock
        self._prompts = prompts(plan)

    async def ask(self) -> Sample:
        """Return one request, answered to the end; Unavailable when it was not."""
        body = {
            "model": self._model,
            "prompt": next(self._prompts),
            "max_tokens": self._plan.output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sample = Sample(sent_at=self._clock.monotonic())
        try:
            async with self._session.post(self._url, json=body) as response:
                if response.status != 200:
                    text = await response.text(errors="replace")
                    raise Unavailable(f"HTTP {response.status}: {text[:_ERROR_CHARS_MAX]}")
                async for event in _events(response):
                    self._take(sample, event)
        except TimeoutError:
            raise Unavailable(f"not answered within {REQUEST_SECONDS_MAX:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = str(error) or type(error).__name__
            raise Unavailable(text[:_ERROR_CHARS_MAX]) from None
        if not sample.pieces_at:
            raise Unavailable("an answer had no token")
        # Engines that do not count are counted here: a piece is a token, a word of ours too.
        sample.output_tokens = sample.output_tokens or len(sample.pieces_at)
        sample.prompt_tokens = sample.prompt_tokens or self._plan.prompt_tokens
        return sample

    def _take(self, sample: Sample, event: Any) -> None:
        if not isinstance(event, dict):
            raise ValueError("an event of the stream is not an object")
        if "error" in event:
            raise Unavailable(f"the engine says: {str(event['error'])[:_ERROR_CHARS_MAX]}")
        if any(choice.get("text") for choice in event.get("choices") or ()):
            sample.pieces_at.append(self._clock.monotonic())
        usage = event.get("usage") or {}
        sample.prompt_tokens = int(usage.get("prompt_tokens") or sample.prompt_tokens)
        sample.output_tokens = int(usage.get("completion_tokens") or sample.output_tokens)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """Yield the events of a stream; ValueError when it does not end as streams do."""
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == _DONE:
            return
        yield json.loads(data)
    raise ValueError("the stream ended without an end")


assert REQUEST_SECONDS_MAX < SECONDS_MAX, "every time of a request can be kept"
