"""Open-loop load: requests leave at planned times whatever the answers do, each in a ledger.

`skerry load`, the demo and the benchmarks run it. An open loop shows what users would see: a
slow or dead fleet does not slow its users down.
"""

import asyncio

from skerry.client.gateways import Cause, RequestOutcome, Result
from skerry.client.inference import InferenceClient
from skerry.client.load_ledger import Ledger, RequestRecord, compact
from skerry.client.load_plan import Arrival, LoadPlan, plan_arrivals
from skerry.plumbing.clock import Clock
from skerry.plumbing.tasks import sleep_unless_stopped


async def run_load(
    plan: LoadPlan, client: InferenceClient, ledger: Ledger, clock: Clock, stop: asyncio.Event
) -> None:
    """Send the plan's requests at their times until it is over or `stop` is set.

    Returns once every answer has ended. Past the plan's limit of requests in flight a request is
    shed: not sent, but in the ledger, since waiting would close the loop unseen.
    """
    start = ledger.now()
    in_flight: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        for arrival in plan_arrivals(plan, len(client.gateways)):
            planned_at = start + arrival.at_seconds
            pause = planned_at - ledger.now()
            if await sleep_unless_stopped(max(pause, 0.0), clock, stop):
                return
            if len(in_flight) >= plan.in_flight_max:
                _record_shed(arrival, client, ledger, planned_at, plan.in_flight_max)
                continue
            task = group.create_task(
                _send(arrival, client, ledger, planned_at, plan.deadline_seconds)
            )
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)


async def send_one(
    arrival: Arrival, client: InferenceClient, ledger: Ledger, begun: asyncio.Event | None = None
) -> None:
    """Send one request now and record what became of it; `begun` is set at its first token."""
    started = ledger.now()
    outcome = await client.send(arrival.request, arrival.preferred, begun)
    _record(arrival, client, ledger, started, started, outcome)


async def _send(
    arrival: Arrival,
    client: InferenceClient,
    ledger: Ledger,
    planned_at: float,
    deadline_seconds: float,
) -> None:
    started = ledger.now()
    outcome = await client.send(
        arrival.request, arrival.preferred, deadline_seconds=deadline_seconds
    )
    _record(arrival, client, ledger, planned_at, started, outcome)


def _record(
    arrival: Arrival,
    client: InferenceClient,
    ledger: Ledger,
    planned_at: float,
    started_at: float,
    outcome: RequestOutcome,
) -> None:
    ttft = outcome.ttft_seconds
    ledger.add(
        RequestRecord(
            number=len(ledger.records) + 1,
            kind=arrival.request.kind,
            planned_at=planned_at,
            started_at=started_at,
            first_token_at=None if ttft is None else started_at + ttft,
            ended_at=ledger.now(),
            gateway=outcome.gateway,
            preferred=_preferred_name(arrival, client),
            attempts=outcome.attempts,
            result=outcome.result,
            tokens=outcome.tokens,
            error=outcome.error,
            id=outcome.request_id,
            plane=outcome.head.plane,
            replica=outcome.head.replica,
            queue_seconds=outcome.head.queue_seconds,
            continued=outcome.continued,
            cause=outcome.cause,
            finish_reason=outcome.end.finish_reason,
            prompt_tokens=outcome.end.prompt_tokens,
            cached_tokens=outcome.end.cached_tokens,
            itl_seconds=compact(outcome.itl_seconds),
        )
    )


def _record_shed(
    arrival: Arrival, client: InferenceClient, ledger: Ledger, planned_at: float, limit: int
) -> None:
    outcome = RequestOutcome(
        result=Result.SHED,
        gateway="",
        attempts=0,
        error=f"not sent: {limit} requests are in flight already",
        cause=Cause.SHED,
    )
    _record(arrival, client, ledger, planned_at, ledger.now(), outcome)


def _preferred_name(arrival: Arrival, client: InferenceClient) -> str:
    if arrival.preferred is None:
        return ""
    return client.gateways[arrival.preferred % len(client.gateways)].name
