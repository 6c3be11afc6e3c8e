"""The demo's steps under traffic: what is killed, what is waited for, what is said about it.

`skerry.cli.demo` sets the stage, calls them in the order of the story and reports.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skerry.cli.answers import print_plan
from skerry.cli.answers import summarise as summarise_consequences
from skerry.cli.demo_display import Display
from skerry.cli.demo_fleet import DemoFleet, kill, pids_of_plane
from skerry.cli.demo_story import DOWN_SECONDS, QUIET_SECONDS, Kill, Moments
from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME
from skerry.cli.supervisor.readiness import grace_seconds
from skerry.cli.up import start_only
from skerry.client.gateways import Request, RequestKind, Result
from skerry.client.inference import InferenceClient
from skerry.client.load import run_load, send_one
from skerry.client.load_ledger import Ledger
from skerry.client.load_plan import Arrival, LoadPlan
from skerry.client.load_summary import summarise
from skerry.client.questions import Lose
from skerry.fleet.deployment import Deployment, FailureDomain
from skerry.fleet.observation import PlaneState
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError

# What two cores serve beside nine other processes; the figures are about failures, not speed.
RATE_PER_SECOND = 5.0
# Long enough that some streams are under way whenever something is killed.
MAX_TOKENS = 160
LONG_TOKENS = 400  # of the context's 512
STORY_SECONDS_MAX = 600.0
SERVING_SECONDS_MAX = 60.0
COME_BACK_SECONDS_MAX = 20.0
LOSS_SECONDS_MAX = 40.0
READY_SECONDS_MAX = 40.0
_STEADY_SECONDS = 3.0
_LIVE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every step of the story needs."""

    fleet: DemoFleet
    inference: InferenceClient
    ledger: Ledger
    moments: Moments
    display: Display
    clock: Clock


async def bring_to_service(stage: Stage, deployment: Deployment) -> None:
    """Apply the deployment and wait until every gateway answers for it."""
    fleet, planes = stage.fleet, len(stage.inference.gateways)
    title = f"plan for deployment {deployment.name}"
    print_plan(stage.display.console, title, await fleet.client.plan(deployment))
    await fleet.client.apply(deployment)

    async def served() -> bool:
        row = await fleet.client.get_deployment(deployment.name)
        ready = await fleet.ready_by_plane()
        return row.replicas_ready >= row.replicas_wanted > 0 and len(ready) >= len(
            stage.inference.gateways
        )

    await fleet.until("every plane has a ready replica", SERVING_SECONDS_MAX, served)
    for index in range(planes):
        await _until_gateway_answers(stage, deployment, index)
    stage.display.say(f"{sum((await fleet.placements()).values())} replicas serve")


async def _until_gateway_answers(stage: Stage, deployment: Deployment, index: int) -> None:
    request = _request(deployment, RequestKind.CHAT_STREAM)

    async def answers() -> bool:
        outcome = await stage.inference.send(request, index)
        return outcome.result is Result.OK and outcome.attempts == 1

    what = f"{stage.inference.gateways[index].name}'s gateway answers"
    await stage.fleet.until(what, COME_BACK_SECONDS_MAX, answers)


async def tell_under_traffic(stage: Stage, deployment: Deployment) -> None:
    """Run steps 2 to 6 with load from the first to the last; each notes its moments."""
    plan = LoadPlan(
        model=deployment.revision.base_model.served_name,
        rate_per_second=RATE_PER_SECOND,
        seconds=STORY_SECONDS_MAX,
        max_tokens=MAX_TOKENS,
    )
    stop = asyncio.Event()
    stage.display.step(2, f"steady traffic, {RATE_PER_SECOND:g} requests a second, from here on")
    async with asyncio.TaskGroup() as group:
        load = group.create_task(run_load(plan, stage.inference, stage.ledger, stage.clock, stop))
        live = group.create_task(_show_figures(stage))
        await stage.clock.sleep(_STEADY_SECONDS)
        await _without_control_plane(stage, deployment)
        await _control_plane_returns(stage, deployment)
        await _plane_dies(stage, deployment)
        await _plane_returns(stage)
        stop.set()
        await load
        live.cancel()


async def _without_control_plane(stage: Stage, deployment: Deployment) -> None:
    fleet, moments = stage.fleet, stage.moments
    moments.placements_before = await fleet.placements()
    stage.display.step(3, f"kill -9 of the control plane; it stays away for {DOWN_SECONDS:.0f} s")
    moments.control_plane_killed = stage.ledger.now()
    kill([fleet.fleet()["control_planes"][0]["pid"]])
    await stage.clock.sleep(QUIET_SECONDS)
    stage.display.say(f"{QUIET_SECONDS:.0f} s without it: {_figures(stage)}")
    first, second, third = (gateway.name for gateway in stage.inference.gateways)
    async with _stream_under_way(stage, deployment, 0):
        victim = _kill_replica(stage, first)
    await _until_replica_back(stage, first, victim)
    dead = _kill_part(stage, second, "agent")
    await _until_part_back(stage, second, "agent", dead)
    async with _stream_under_way(stage, deployment, 2):
        dead = _kill_part(stage, third, "gateway")
    await _until_part_back(stage, third, "gateway", dead)
    await _until_gateway_answers(stage, deployment, 2)
    passed = stage.ledger.now() - moments.control_plane_killed
    await stage.clock.sleep(max(0.0, DOWN_SECONDS - passed))
    stage.display.say(f"{DOWN_SECONDS:.0f} s without it: {_figures(stage)}")


@contextlib.asynccontextmanager
async def _stream_under_way(
    stage: Stage, deployment: Deployment, index: int
) -> AsyncIterator[None]:
    """Have a long stream answering through the gateway in the block; it too is in the ledger."""
    arrival = Arrival(
        at_seconds=0.0,
        request=replace(_request(deployment, RequestKind.CHAT_STREAM), max_tokens=LONG_TOKENS),
        preferred=index,
    )
    begun = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        stream = group.create_task(send_one(arrival, stage.inference, stage.ledger, begun))
        waiting = group.create_task(begun.wait())
        await asyncio.wait((stream, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        yield


def _kill_replica(stage: Stage, plane: str) -> Mapping[str, Any]:
    victim: Mapping[str, Any] = stage.fleet.plane(plane)["replicas"][0]
    stage.moments.kills["replica"] = Kill(at=stage.ledger.now(), plane=plane, carries_streams=True)
    kill([victim["pid"], victim["engine_pid"]])
    return victim


async def _until_replica_back(stage: Stage, plane: str, victim: Mapping[str, Any]) -> None:
    async def is_back() -> bool:
        replicas = stage.fleet.plane(plane)["replicas"]
        return any(r["state"] == "ready" and r["pid"] > 0 for r in replicas) and not any(
            r["pid"] == victim["pid"] for r in replicas
        )

    await stage.fleet.until(f"{plane} has its replica back", COME_BACK_SECONDS_MAX, is_back)
    _say_back(stage, "replica", f"replica {victim['name']} of {plane}")


def _kill_part(stage: Stage, plane: str, part: str) -> int:
    pid: int = stage.fleet.plane(plane)[f"{part}_pid"]
    stage.moments.kills[part] = Kill(
        at=stage.ledger.now(), plane=plane, carries_streams=part == "gateway"
    )
    kill([pid])
    return pid


async def _until_part_back(stage: Stage, plane: str, part: str, dead: int) -> None:
    async def is_back() -> bool:
        return stage.fleet.plane(plane)[f"{part}_pid"] not in (None, dead)

    await stage.fleet.until(f"{plane}'s {part} is back", COME_BACK_SECONDS_MAX, is_back)
    _say_back(stage, part, f"the {part} of {plane}")


def _say_back(stage: Stage, key: str, what: str) -> None:
    seconds = stage.ledger.now() - stage.moments.kills[key].at
    stage.display.say(f"{what} was killed and is back after {seconds:.1f} s")


async def _control_plane_returns(stage: Stage, deployment: Deployment) -> None:
    fleet, moments = stage.fleet, stage.moments
    stage.display.step(4, "the control plane returns")
    pids = fleet.replica_pids()
    await start_only(fleet.directory, CONTROL_PLANE_NAME)

    async def answers() -> bool:
        return bool(await fleet.client.list_planes())

    await fleet.until("the control plane answers", SERVING_SECONDS_MAX, answers)
    moments.control_plane_back = stage.ledger.now()
    await _explain(stage, deployment)

    async def is_over() -> bool:
        states = [plane.state for plane in (await fleet.planes()).values()]
        is_calm = all(state is PlaneState.CONNECTED for state in states)
        return is_calm and stage.ledger.now() - moments.control_plane_back >= grace_seconds()

    grace = grace_seconds()
    what = f"all planes are connected and the grace of {grace:.0f} s is over"
    await fleet.until(what, grace + COME_BACK_SECONDS_MAX, is_over)
    after = fleet.replica_pids()
    moments.replicas_restarted_by_return = sum(1 for n, pid in pids.items() if after.get(n) != pid)
    moments.placements_after = await fleet.placements()
    stage.display.say(
        f"adopted {len(after)} replicas, restarted {moments.replicas_restarted_by_return},"
        f" moved {'none' if moments.placements_after == moments.placements_before else 'some'}"
    )


async def _explain(stage: Stage, deployment: Deployment) -> None:
    """Tell why replicas are where they are, while the grace passes anyway."""
    try:
        found = await stage.fleet.client.explain(deployment.name)
    except SkerryError as error:
        stage.display.say(f"why they run there was not answered: {error}")
        return
    stage.display.say(f"`skerry explain deployment {deployment.name}`: {found.reasons[0]}")


async def _ask_before(stage: Stage, victim: str) -> None:
    """Tell what the scheduler expects of the loss that is about to happen."""
    lost = Lose(domain=FailureDomain.PLANE, name=victim)
    try:
        found = await stage.fleet.client.what_if((lost,))
    except SkerryError as error:
        stage.display.say(f"what would happen was not answered: {error}")
        return
    stage.display.say(f"`skerry what-if --lose plane/{victim}`: {summarise_consequences(found)}")


async def _plane_dies(stage: Stage, deployment: Deployment) -> None:
    fleet, moments = stage.fleet, stage.moments
    index, victim = 1, stage.inference.gateways[1].name
    wanted = (await fleet.client.get_deployment(deployment.name)).replicas_wanted
    stage.display.step(5, f"the whole plane {victim} is killed")
    await _ask_before(stage, victim)
    moments.plane = victim
    processes = pids_of_plane(fleet.plane(victim))
    moments.plane_killed = stage.ledger.now()
    killed = kill(processes)
    # One who begins at the dead plane, at once: the figure of the report.
    request = _request(deployment, RequestKind.CHAT_STREAM)
    await send_one(
        Arrival(at_seconds=0.0, request=request, preferred=index), stage.inference, stage.ledger
    )
    stage.display.say(f"{killed} processes killed; {_figures(stage)}")

    async def decided() -> bool:
        elsewhere = {
            pool: n
            for pool, n in (await fleet.placements()).items()
            if not pool.startswith(f"{victim}--")
        }
        return sum(elsewhere.values()) >= wanted

    await fleet.until("replacements are decided", LOSS_SECONDS_MAX, decided)
    moments.replacement_decided = stage.ledger.now()
    moments.loss_reason = await fleet.loss_reason(victim)
    witnesses = (await fleet.planes())[victim].witnesses
    moments.loss_witnesses = {view.plane: view.verdict.value for view in witnesses}
    stage.display.say(
        f"decided after {moments.replacement_decided - moments.plane_killed:.1f} s:"
        f" {moments.loss_reason}"
    )

    async def ready() -> bool:
        counts = await fleet.ready_by_plane()
        return sum(n for plane, n in counts.items() if plane != victim) >= wanted

    await fleet.until("the replacements serve", READY_SECONDS_MAX, ready)
    moments.replacement_ready = stage.ledger.now()
    seconds = moments.replacement_ready - moments.plane_killed
    stage.display.say(f"the replacements serve after {seconds:.1f} s: {_figures(stage)}")


async def _plane_returns(stage: Stage) -> None:
    fleet, moments = stage.fleet, stage.moments
    stage.display.step(6, f"{moments.plane} comes back and is reconciled")
    await start_only(fleet.directory, moments.plane)

    async def reconciled() -> bool:
        row = (await fleet.planes())[moments.plane]
        placements = await fleet.placements()
        runs = len(fleet.replica_pids())
        is_served = await fleet.is_served()
        # A plane for which nothing changed holds the stored state under a later epoch's version.
        is_told = row.state is PlaneState.CONNECTED and row.held == row.desired
        # Exactly what was decided runs: what stood in has left again, if it was to.
        return is_told and is_served and runs == sum(placements.values())

    await fleet.until(f"{moments.plane} is reconciled", SERVING_SECONDS_MAX, reconciled)
    moments.plane_back = stage.ledger.now()
    seconds = moments.plane_back - moments.plane_killed
    stage.display.say(f"{seconds:.1f} s after its death all is as decided: {_figures(stage)}")
    await stage.clock.sleep(_STEADY_SECONDS)


async def _show_figures(stage: Stage) -> None:
    while True:
        stage.display.live(_figures(stage))
        await stage.clock.sleep(_LIVE_SECONDS)


def _figures(stage: Stage) -> str:
    summary = summarise(stage.ledger.records)
    return (
        f"{summary.requests} requests, {summary.failed} failed, {summary.interrupted} interrupted"
    )


def _request(deployment: Deployment, kind: RequestKind) -> Request:
    return Request(
        kind=kind,
        model=deployment.revision.base_model.served_name,
        prompt="Tell me a story about a small boat.",
        max_tokens=MAX_TOKENS,
    )
