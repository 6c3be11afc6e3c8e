"""Runs one drill: load, the fault, what is seen meanwhile, and everything put back.

`skerry drill run` calls `run_drill`. What is to be broken is written down first; a guard beside
it puts back what this process, killed, could not.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from skerry.cli.drills.catalogue import Drill, FleetFacts, Hurts, Target
from skerry.cli.drills.guard import start_guard
from skerry.cli.drills.observer import Observer, engine_pids, is_whole
from skerry.cli.drills.report import RESTORED_SECONDS_MAX, DrillReport, Measured, make_report
from skerry.cli.drills.samples import Sample, covered, totals
from skerry.cli.drills.unfinished import Unfinished, put_back, write_unfinished
from skerry.cli.supervisor.fleet_file import gateways_of, read_fleet
from skerry.cli.supervisor.layout import DataDirectory
from skerry.client.inference import InferenceClient, connect
from skerry.client.load import run_load
from skerry.client.load_ledger import Ledger
from skerry.client.load_plan import LoadPlan
from skerry.client.operator import AsyncOperatorClient
from skerry.client.rows import ChangeRow
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import NotFound, SkerryError
from skerry.plumbing.ids import IdSource
from skerry.plumbing.processes import (
    ProcessRecord,
    kill_group,
    record_of,
    signal_process,
)
from skerry.plumbing.tasks import sleep_unless_stopped

BEFORE_SECONDS = 3.0
AFTER_SECONDS = 3.0
# Of an answer in the load: some are under way at any moment, none outlasts a drill.
MAX_TOKENS = 32
DEADLINE_SECONDS = 60.0
# The load is stopped by the drill; its plan only needs to be longer than any of them.
LOAD_SECONDS_MAX = 3_600.0
MODELS_MAX = 16  # deployments that are asked; the rate is shared among them
_LOOK_SECONDS = 0.1
_START_AGAIN_SECONDS = 5.0
_CHANGES_MAX = 500

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A drill as somebody asked for it: how long at most, and how many requests a second."""

    drill: Drill
    target: Target
    seconds: float
    rate: float
    api_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where a drill takes place."""

    directory: DataDirectory
    operator: AsyncOperatorClient
    clock: Clock
    ids: IdSource
    stop: asyncio.Event
    say: Say


async def run_drill(ground: Ground, asked: Asked, facts: FleetFacts) -> DrillReport:
    """Run the drill and return its report; everything is put back also when it is stopped.

    Who calls it holds the fleet.
    """
    ledger = Ledger(ground.clock)
    began = ground.clock.now().isoformat(timespec="seconds")
    sequence = await _newest_change(ground.operator)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0))
        )
        observer = Observer(
            directory=ground.directory,
            operator=ground.operator,
            http=http,
            ledger=ledger,
            clock=ground.clock,
            drill=asked.drill,
            target=asked.target,
        )
        before = await observer.look()
        engines = engine_pids(read_fleet(ground.directory.fleet))
        await stack.enter_async_context(_beside(ground, asked, facts, ledger, observer))
        await sleep_unless_stopped(BEFORE_SECONDS, ground.clock, ground.stop)
        course = await _break_and_mend(ground, asked, observer, before)
    # The load has ended by now, each of its requests with it.
    return make_report(
        Measured(
            drill=asked.drill,
            target=asked.target,
            began=began,
            fault_at=course.fault_at,
            put_back_at=course.put_back_at,
            restored_at=course.restored_at,
            before=before,
            samples=tuple(observer.samples),
            records=tuple(ledger.records),
            engines_before=engines,
            engines_after=engine_pids(read_fleet(ground.directory.fleet)),
            changes=await _changes_since(ground.operator, sequence),
            standbys=len(facts.control_planes) - 1,
            stopped=ground.stop.is_set(),
        )
    )


@dataclass(slots=True, kw_only=True)
class _Course:
    fault_at: float = 0.0
    put_back_at: float = 0.0
    restored_at: float | None = None


async def _break_and_mend(
    ground: Ground, asked: Asked, observer: Observer, before: Sample
) -> _Course:
    """Make the fault, hold it, put everything back and wait until the fleet is whole."""
    course = _Course()
    victims = find_victims(read_fleet(ground.directory.fleet), asked.drill, asked.target)
    check_ours(victims, ground.directory.root)
    unfinished = Unfinished(
        drill=asked.drill.name,
        runner=record_of(os.getpid()),
        paused=victims if asked.drill.pauses else (),
        to_start=_names(asked) if asked.drill.starts_again else (),
    )
    write_unfinished(ground.directory, unfinished)
    try:
        start_guard(ground.directory)
        observer.dead = frozenset(record.pid for record in victims)
        course.fault_at = observer.ledger.now()
        _break(victims, asked.drill)
        verb = "stopped (SIGSTOP)" if asked.drill.pauses else "killed"
        ground.say(f"{len(victims)} processes {verb}: {asked.target.describe()}")
        await _hold(ground, asked, observer, totals(before.placed))
    finally:
        course.put_back_at = observer.ledger.now()
        for done in await put_back(ground.directory, unfinished):
            ground.say(done)
    course.restored_at = await _until_whole(ground, asked, observer, before)
    if not ground.stop.is_set():
        await ground.clock.sleep(AFTER_SECONDS)
    return course


def find_victims(
    fleet: Mapping[str, Any], drill: Drill, target: Target
) -> tuple[ProcessRecord, ...]:
    """Return the processes that a drill hurts, those first that would start others again.

    NotFound when one of them does not run.
    """
    planes = [one for one in fleet["planes"] if one["name"] in target.planes]
    leading = [one for one in fleet["control_planes"] if one["name"] in target.control_planes]
    match drill.hurts:
        case Hurts.CONTROL_PLANES | Hurts.LEADER:
            pids = [one["pid"] for one in leading]
        case Hurts.AGENT:
            pids = [one["agent_pid"] for one in planes]
        case Hurts.GATEWAY:
            pids = [one["gateway_pid"] for one in planes]
        case Hurts.ENGINE:
            replicas = [one for plane in planes for one in plane["replicas"]]
            pids = [one["engine_pid"] for one in replicas if one["name"] == target.replica]
        case _:
            pids = [pid for plane in planes for pid in _all_of(plane)]
    if not pids or None in pids:
        raise NotFound(f"{target.describe()}: not all of it runs; `skerry get planes` shows more")
    return tuple(record_of(pid) for pid in pids)


def check_ours(victims: Iterable[ProcessRecord], root: Path) -> None:
    """Raise NotFound for a process that is not of the fleet in that directory.

    fleet.json may be a moment old, and the number of a process that ended be a stranger's by now.
    Every process of a fleet has its directory in its command line, or a mark in its environment.
    """
    for record in victims:
        told = b""
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                told += Path(f"/proc/{record.pid}/{name}").read_bytes()
        if os.fsencode(root.resolve()) not in told and os.fsencode(root) not in told:
            raise NotFound(
                f"process {record.pid} ({record.name}) is none of this fleet any more; nothing was"
                " hurt, repeat the drill"
            )


def _all_of(plane: Mapping[str, Any]) -> list[int]:
    parts = ("agent_pid", "gateway_pid", "front_pid", "picker_pid", "relay_pid")
    pids = [plane[part] for part in parts]
    for replica in plane["replicas"]:
        pids += [replica["pid"], replica["engine_pid"]]
    # The relay may have nothing to do yet, and an engine may just be starting.
    return [pid for pid in pids if pid]


def _break(victims: tuple[ProcessRecord, ...], drill: Drill) -> None:
    """Stop or kill, all in one instant; of a lost machine nothing stays."""
    number = signal.SIGSTOP if drill.pauses else signal.SIGKILL
    for record in victims:
        signal_process(record, number)
    if drill.hurts in (Hurts.PLANE, Hurts.REGION):
        for record in victims:
            kill_group(record)


def _names(asked: Asked) -> tuple[str, ...]:
    """Return what the supervisor is asked to start again."""
    return (*asked.target.control_planes, *asked.target.planes)


async def _hold(
    ground: Ground, asked: Asked, observer: Observer, wanted: Mapping[str, int]
) -> None:
    """Keep the fault for its time, or until what it is about has happened."""
    began, deadline = observer.ledger.now(), ground.clock.monotonic() + asked.seconds
    replaces = asked.drill.hurts in (Hurts.PLANE, Hurts.REGION)

    def is_over(sample: Sample) -> bool:
        if sample.at < began:
            return False
        if replaces:
            return sample.answered and covered(sample.ready, wanted, asked.target.planes)
        return sample.is_target_back is True

    while ground.clock.monotonic() < deadline and not ground.stop.is_set():
        if asked.drill.ends_by_itself and observer.samples and is_over(observer.samples[-1]):
            await sleep_unless_stopped(AFTER_SECONDS, ground.clock, ground.stop)
            return
        await sleep_unless_stopped(_LOOK_SECONDS, ground.clock, ground.stop)


async def _until_whole(
    ground: Ground, asked: Asked, observer: Observer, before: Sample
) -> float | None:
    """Wait until all runs and is served as before; return when, None when it did not come."""
    wanted, deadline = totals(before.placed), ground.clock.monotonic() + RESTORED_SECONDS_MAX
    next_start = ground.clock.monotonic() + _START_AGAIN_SECONDS
    while ground.clock.monotonic() < deadline:
        sample = await observer.look()
        runs = is_whole(read_fleet(ground.directory.fleet))
        served = sample.answered and covered(sample.ready, wanted, ())
        connected = all(state == "connected" for state in sample.states.values())
        if runs and served and connected:
            return observer.ledger.now()
        if asked.drill.starts_again and ground.clock.monotonic() >= next_start and not runs:
            # What died too late to be seen dead when it was asked for is asked for again.
            next_start += _START_AGAIN_SECONDS
            with contextlib.suppress(SkerryError):
                await put_back(
                    ground.directory,
                    Unfinished(
                        drill=asked.drill.name,
                        runner=record_of(os.getpid()),
                        to_start=_names(asked),
                    ),
                )
        await ground.clock.sleep(_LOOK_SECONDS)
    return None


@contextlib.asynccontextmanager
async def _beside(
    ground: Ground, asked: Asked, facts: FleetFacts, ledger: Ledger, observer: Observer
) -> AsyncIterator[None]:
    """Have the fleet watched and, unless the rate is 0, asked during the block.

    Every request that was sent is waited for at its end.
    """
    over = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        client: InferenceClient | None = None
        if asked.rate > 0:
            gateways = gateways_of(read_fleet(ground.directory.fleet))
            client = await stack.enter_async_context(
                connect(gateways, ground.clock, ground.ids, api_key=asked.api_key)
            )
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(observer.run())
            sending = group.create_task(_load(asked, facts, client, ledger, (ground.clock, over)))
            try:
                yield
            finally:
                over.set()
                await _ended(sending)
                watching.cancel()


async def _load(
    asked: Asked,
    facts: FleetFacts,
    client: InferenceClient | None,
    ledger: Ledger,
    ending: tuple[Clock, asyncio.Event],
) -> None:
    if client is None:
        return
    clock, over = ending
    rows = facts.deployments[:MODELS_MAX]
    models = sorted({row.deployment.revision.base_model.served_name for row in rows})
    async with asyncio.TaskGroup() as group:
        for seed, model in enumerate(models, start=1):
            plan = LoadPlan(
                model=model,
                rate_per_second=asked.rate / len(models),
                seconds=LOAD_SECONDS_MAX,
                seed=seed,
                max_tokens=MAX_TOKENS,
                deadline_seconds=DEADLINE_SECONDS,
            )
            group.create_task(run_load(plan, client, ledger, clock, over))


async def _ended(task: Awaitable[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _newest_change(operator: AsyncOperatorClient) -> int:
    newest = await operator.latest_changes(1)
    return newest[-1].sequence if newest else 0


async def _changes_since(operator: AsyncOperatorClient, sequence: int) -> tuple[ChangeRow, ...]:
    try:
        return tuple([row async for row in _bounded(operator.iter_changes_since(sequence))])
    except SkerryError:
        return ()  # the fleet did not come back, which the report says already


async def _bounded(rows: AsyncIterator[ChangeRow]) -> AsyncIterator[ChangeRow]:
    count = 0
    async for row in rows:
        yield row
        count += 1
        if count >= _CHANGES_MAX:
            return
