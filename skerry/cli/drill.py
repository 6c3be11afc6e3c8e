"""`skerry drill`: break something in a live fleet of `skerry up` on purpose, and see what holds."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import EXIT_FAILED, Session, UsageFault, session_of, user_name

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.cli.drills.catalogue import Drill, FleetFacts, Target
    from skerry.cli.drills.report import DrillReport
    from skerry.cli.drills.runner import Asked
    from skerry.cli.supervisor.layout import DataDirectory
    from skerry.client.operator import AsyncOperatorClient

SECONDS_MAX = 1_800.0
RATE_MAX = 200.0  # beside the fleet itself, on the same host
_EXIT_INTERRUPTED = 130
# A look that has no answer is a finding here, not something to wait out.
_ROUNDS_MAX = 1

app = typer.Typer(
    help="Break something in a live fleet of `skerry up` on purpose, and see what holds.",
    no_args_is_help=True,
)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the fleet lives; default: the context's.")
]


@app.command("list")
def list_drills(context: typer.Context) -> None:
    """Show the drills, whom each hurts and for how long."""
    from skerry.cli.drills.catalogue import DRILLS

    console = session_of(context).console()
    for drill in DRILLS:
        length = f"{'up to ' if drill.ends_by_itself else ''}{drill.hold_seconds:g} s"
        console.print(f"{drill.name:<20}{length:<12}{drill.summary}")


@app.command("run")
def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="One of `skerry drill list`.")],
    plane: Annotated[
        str, typer.Option("--plane", help="Which one; default: that with the most replicas.")
    ] = "",
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="How long, at most; see the list.")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", help="Requests a second meanwhile; 0 only watches.")
    ] = 4.0,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the report as JSON here.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also on a fleet that would not survive it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Run a drill under load and put everything back; exit 1 when a promise broke."""
    import asyncio

    from skerry.cli.drills.catalogue import drill_named
    from skerry.cli.drills.unfinished import hold_fleet

    session = session_of(context)
    drill = drill_named(name)
    held = drill.hold_seconds if seconds is None else seconds
    if not 0 < held <= SECONDS_MAX:
        raise UsageFault(f"--seconds must be above 0 and at most {SECONDS_MAX:g}")
    if not 0 <= rate <= RATE_MAX:
        raise UsageFault(f"--rate must be 0..{RATE_MAX:g}")
    if report is not None:
        _check_writable(report)
    directory = _directory(session, data_dir)
    wish = _Wish(drill=drill, plane=plane, seconds=held, rate=rate, force=force, yes=yes)
    # From before its first look on: a fleet that another drill hurts would only look unfit.
    with hold_fleet(directory):
        found = asyncio.run(_run(session, directory, wish))
    print_report(session.console(), found)
    if report is not None:
        _write(report, found)
    if found.stopped:
        raise typer.Exit(_EXIT_INTERRUPTED)
    if not found.held:
        raise typer.Exit(EXIT_FAILED)


@app.command("undo")
def undo(context: typer.Context, data_dir: DataDir = None) -> None:
    """Put back what a drill left broken that was killed, and the guard beside it too."""
    import asyncio

    from skerry.cli.drills.unfinished import is_under_way, put_back, read_unfinished
    from skerry.plumbing.errors import Conflict

    session = session_of(context)
    directory = _directory(session, data_dir)
    left = read_unfinished(directory)
    if left is None:
        session.console().print("no drill is unfinished")
        return
    if is_under_way(left):
        raise Conflict(
            f"drill {left.drill} runs as process {left.runner.pid}; Ctrl-C there ends it"
        )
    for done in asyncio.run(put_back(directory, left)):
        session.console().print(done)
    session.console().print(f"drill {left.drill} is put back")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What `run` was asked for."""

    drill: "Drill"
    plane: str
    seconds: float
    rate: float
    force: bool
    yes: bool


async def _run(session: Session, directory: "DataDirectory", wish: _Wish) -> "DrillReport":
    import asyncio

    from skerry.cli.drills.observer import read_facts
    from skerry.cli.drills.runner import Ground, run_drill
    from skerry.cli.known_gateways import key_of
    from skerry.cli.supervisor.control_socket import ask
    from skerry.client.context import load_context
    from skerry.client.operator import AsyncOperatorClient
    from skerry.client.retrying import RetryPolicy
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds
    from skerry.plumbing.tasks import stop_on_signals

    clock = SystemClock()
    ids, console = SystemIds(clock), session.console()
    await ask(directory.socket, {"verb": "status"})  # without one nothing would come back
    context = load_context(directory.config, session.endpoint, {})
    policy = RetryPolicy(rounds_max=_ROUNDS_MAX)
    actor = f"user:{user_name()}"
    async with AsyncOperatorClient(context, ids, actor, session.reason, retries=policy) as operator:
        facts = await read_facts(directory, operator)
        asked = _prepare(console, wish, facts, key_of(context))
        # Not before the question: a Ctrl-C there is an answer.
        stop = asyncio.Event()
        stop_on_signals(stop)
        ground = Ground(
            directory=directory,
            operator=operator,
            clock=clock,
            ids=ids,
            stop=stop,
            say=console.print,
        )
        found = await run_drill(ground, asked, facts)
        await _write_down(console, operator, found)
        return found


async def _write_down(
    console: "Console", operator: "AsyncOperatorClient", found: "DrillReport"
) -> None:
    """Have the timeline show the drill; where the fleet does not take it, the report is enough."""
    from skerry.plumbing.errors import SkerryError

    # What the change log got meanwhile stands there already.
    report = {name: value for name, value in found.to_json().items() if name != "changes"}
    try:
        await operator.record_drill(found.drill, report)
    except SkerryError as error:
        console.print(f"the change log has nothing of this drill: {error}")


def _prepare(console: "Console", wish: _Wish, facts: "FleetFacts", key: str) -> "Asked":
    """Return what is to be done; raises Infeasible on an unfit fleet, Abort when told no."""
    from skerry.cli.drills.catalogue import choose_target, reasons_against
    from skerry.cli.drills.runner import Asked
    from skerry.plumbing.errors import Infeasible

    target = choose_target(wish.drill, facts, wish.plane)
    against = reasons_against(wish.drill, target, facts)
    if against and not wish.force:
        told = "\n".join(f"  {reason}" for reason in against)
        raise Infeasible(f"the fleet is not fit for it; --force does it all the same\n{told}")
    _announce(console, wish, target, against)
    if not wish.yes:
        if not sys.stdin.isatty():
            raise UsageFault("nobody is there to ask whether to go on; give --yes")
        typer.confirm("go on?", abort=True)
    return Asked(drill=wish.drill, target=target, seconds=wish.seconds, rate=wish.rate, api_key=key)


def _announce(console: "Console", wish: _Wish, target: "Target", against: tuple[str, ...]) -> None:
    until = "until that is made up for, at most" if wish.drill.ends_by_itself else "for"
    console.print(f"{wish.drill.name}: {wish.drill.summary}")
    console.print(f"  hurts {target.describe()} {until} {wish.seconds:g} s; then all is put back")
    load = f"{wish.rate:g} requests a second" if wish.rate else "no requests of its own"
    console.print(f"  meanwhile {load}; users notice whatever no promise holds")
    for reason in against:
        console.print(f"  in spite of: {reason}")


def print_report(console: "Console", report: "DrillReport") -> None:
    """Print a report: the figures, then each promise with what was measured."""
    for name, value in report.to_json().items():
        if name in _SHOWN_APART:
            continue
        console.print(f"  {name:<28}{'-' if value in (None, '') else value}")
    for change in report.changes:
        console.print(f"  change: {change}")
    for check in report.promises:
        measured = "never" if check.measured is None else f"{check.measured:g}"
        verdict = "held" if check.held else "BROKEN"
        console.print(f"{verdict:<8}{check.promise}: {measured} (at most {check.limit:g})")
    if report.stopped:
        console.print("the drill was ended early; everything is put back")


_SHOWN_APART = ("changes", "promises")


def _check_writable(path: Path) -> None:
    """Raise UsageFault for a report that could not be written: before anything is broken for it."""
    existed = path.exists()
    try:
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise UsageFault(
            f"--report: {path} cannot be written ({error.strerror}); nothing was broken"
        ) from error
    if not existed:
        path.unlink(missing_ok=True)


def _write(path: Path, report: "DrillReport") -> None:
    import json

    path.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")


def _directory(session: Session, data_dir: Path | None) -> "DataDirectory":
    """Return the fleet's folder; UsageFault when the context is of no fleet of this host."""
    from skerry.cli.up import resolve_directory

    if data_dir is None:
        try:
            data_dir = session.context().data_directory
        except UsageFault:
            data_dir = None  # no context: the default folder, if a fleet is there
    directory = resolve_directory(data_dir)
    if not directory.fleet.is_file():
        raise UsageFault(
            f"no fleet of `skerry up` in {directory.root}; drills are for those only, name its"
            " folder with --data-dir"
        )
    return directory
