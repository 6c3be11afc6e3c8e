"""Open-loop load on a fleet while something breaks, and what its ledger says of it.

Through one gateway without any retry of the client's, so that the gateway's own promise is what
is measured; or through `skerry.client` with all gateways, where the gateway itself is what dies.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from skerry.client.gateways import (
    AttemptFailed,
    Cause,
    Emitted,
    Gateway,
    Items,
    Request,
    RequestKind,
    Result,
)
from skerry.client.inference import InferenceClient, connect
from skerry.client.load import run_load
from skerry.client.load_ledger import Ledger, RequestRecord
from skerry.client.load_plan import LoadPlan
from skerry.client.load_summary import first_success_after, summarise
from skerry.client.transport import NetworkTransport, Transport
from skerry.plumbing.ids import SystemIds
from tests.faults.fleet import CLOCK, SERVED

# Whole answers over HTTP have no first byte before their last: none of them may ever fail.
MIX = (
    (RequestKind.CHAT_STREAM, 0.5),
    (RequestKind.GENERATE, 0.25),
    (RequestKind.CHAT, 0.25),
)
RATE_PER_SECOND = float(os.environ.get("SKERRY_FAULTS_RATE", "20"))
TOKENS = 60  # 1.2 s: about a stream per request a second is under way when something breaks
BEFORE_SECONDS = 2.0
AFTER_SECONDS = 2.0
DEADLINE_SECONDS = 45.0


class Through(StrEnum):
    """Who asks, and over what."""

    ONE_GATEWAY = "one gateway, no retry"
    CLIENT = "skerry.client, every gateway"


class Serves(Protocol):
    """A fleet that can be asked, its nearest gateway first."""

    continuation: bool

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """Return the gateways."""


class OneTry:
    """A transport whose every failure is the request's last: nobody tries again elsewhere."""

    def __init__(self, inner: Transport) -> None:
        """Make attempts through another transport."""
        self._inner = inner

    async def attempt(
        self, gateway: Gateway, request: Request, request_id: str, emitted: Emitted | None = None
    ) -> Items:
        """Yield what comes; AttemptFailed that says not to try elsewhere."""
        items = self._inner.attempt(gateway, request, request_id, emitted)
        async with contextlib.aclosing(items):
            try:
                async for item in items:
                    yield item
            except AttemptFailed as error:
                raise AttemptFailed(
                    error.message, error.cause, elsewhere=False, cool_down=False
                ) from None

    async def probe(self, gateway: Gateway) -> float:
        """Return the seconds of a probe."""
        return await self._inner.probe(gateway)


@contextlib.asynccontextmanager
async def a_client(fleet: Serves, through: Through) -> AsyncIterator[InferenceClient]:
    """Yield a client of the home's gateway alone, or of all with the home's first."""
    ids = SystemIds(CLOCK)
    if through is Through.CLIENT:
        async with connect(fleet.gateways, CLOCK, ids) as client:
            yield client
        return
    async with NetworkTransport(CLOCK) as transport:
        yield InferenceClient(fleet.gateways[:1], OneTry(transport), CLOCK, ids)


@dataclass(slots=True)
class Load:
    """A load that runs, as the fault sees it."""

    ledger: Ledger
    fault_at: float = 0.0

    def since_fault(self) -> float:
        """Return the seconds since the fault began."""
        return self.ledger.now() - self.fault_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a load met; seconds, counted from the fault where they say so.

    `failed` got no first byte, `broken` did and not their end. `worst_wait` is the
    longest that anybody under way at the fault or later waited for a first token or between two,
    `last_failed` when the last of those that failed was sent.
    """

    requests: int
    under_way: int
    failed: int
    broken: int
    shed: int
    first_success_seconds: float
    worst_wait_seconds: float
    last_failed_seconds: float = 0.0
    errors: tuple[str, ...] = ()
    broken_as: tuple[tuple[RequestKind, Cause | None], ...] = ()


Fault = Callable[[Load], Awaitable[None]]


async def under_load(
    fleet: Serves,
    fault: Fault,
    *,
    seconds: float,
    through: Through = Through.ONE_GATEWAY,
    rate: float = RATE_PER_SECOND,
) -> Outcome:
    """Send requests for two seconds and on while the fault happens; return what became of them.

    At most for so many seconds after the fault began, and no longer than two after it returned.
    Every request is waited for. With all gateways each has its share of them.
    """
    plan = LoadPlan(
        model=SERVED,
        rate_per_second=rate,
        seconds=BEFORE_SECONDS + seconds,
        mix=MIX,
        max_tokens=TOKENS,
        deadline_seconds=DEADLINE_SECONDS,
    )
    load = Load(Ledger(CLOCK))
    stop = asyncio.Event()
    async with a_client(fleet, through) as client, asyncio.TaskGroup() as group:
        running = group.create_task(run_load(plan, client, load.ledger, CLOCK, stop))
        await CLOCK.sleep(BEFORE_SECONDS)
        load.fault_at = load.ledger.now()
        await fault(load)
        await CLOCK.sleep(AFTER_SECONDS)
        stop.set()
        await running
    return outcome(load.ledger.records, load.fault_at)


def outcome(records: Sequence[RequestRecord], fault_at: float) -> Outcome:
    """Return what a ledger says of a fault at that time."""
    ids = [record.id for record in records]
    lost = (Result.FAILED, Result.INTERRUPTED)
    assert len(ids) == len(set(ids)), "a request ended twice"
    summary = summarise(records)
    failed = [r for r in records if r.result is Result.FAILED and not _had_begun(r)]
    after = [record for record in records if record.ended_at >= fault_at]
    first = first_success_after(records, fault_at)
    assert first is not None, f"nothing was served after the fault: {summary}"
    assert first.first_token_at is not None
    return Outcome(
        requests=summary.requests,
        under_way=sum(1 for record in after if record.started_at < fault_at),
        failed=len(failed),
        broken=summary.interrupted + summary.failed - len(failed),
        shed=summary.shed,
        first_success_seconds=first.first_token_at - fault_at,
        worst_wait_seconds=max(_longest_wait(record) for record in after),
        last_failed_seconds=max((r.started_at - fault_at for r in failed), default=0.0),
        errors=tuple(sorted({f"{r.result}: {r.cause}: {r.error}" for r in records if r.error})),
        broken_as=tuple(
            {(r.kind, r.cause) for r in records if r.result in lost and r not in failed}
        ),
    )


def _had_begun(record: RequestRecord) -> bool:
    """Say whether a stream without a token was cut behind its head.

    Envoy answers by itself as long as it has sent nothing, and cuts afterwards; grpc then throws
    away what it had not read yet.
    """
    cut = "RST_STREAM" if record.kind is RequestKind.GENERATE else "payload is not completed"
    return record.kind.is_stream and cut in record.error


def _longest_wait(record: RequestRecord) -> float:
    first = record.first_token_at
    waits = [*record.itl_seconds, (record.ended_at if first is None else first) - record.started_at]
    return max(waits)
