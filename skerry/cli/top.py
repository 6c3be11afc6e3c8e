"""`skerry top`: planes and deployments as they are now, drawn anew every few seconds."""

import json
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from skerry.cli.fleet_top.frame import SPAN_SECONDS_MIN, Frame, Looks
from skerry.cli.questions import check_output
from skerry.cli.session import session_of
from skerry.plumbing.errors import SkerryError

INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX = 0.5, 60.0
# Before the second look of `--once`: each plane has told anew by then.
ONCE_SECONDS = SPAN_SECONDS_MIN + 1.0

Show = Callable[[Frame], None]


def top(
    context: typer.Context,
    interval: Annotated[
        float,
        typer.Option(
            "--interval",
            min=INTERVAL_SECONDS_MIN,
            max=INTERVAL_SECONDS_MAX,
            help="Seconds between looks.",
        ),
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Two looks six seconds apart, and what they say.")
    ] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show planes and deployments live: capacity, replicas, requests, latency, tokens."""
    from rich.live import Live

    from skerry.cli.fleet_top.drawing import draw
    from skerry.cli.fleet_top.looking import look
    from skerry.cli.render import render_json, to_plain
    from skerry.plumbing.clock import SystemClock

    check_output(output)
    session, clock, looks = session_of(context), SystemClock(), Looks()
    root, console = session.context().data_directory, session.console()
    pause = threading.Event()  # never set: an interrupt ends the wait
    with session.operator() as client:

        def take() -> None:
            looks.take(look(client, clock, root))

        def seen(fault: str = "") -> Frame:
            frame = looks.frame(clock.monotonic(), fault)
            assert frame is not None, "the first look raises or is taken"
            return frame

        take()
        if once:
            pause.wait(ONCE_SECONDS)
            take()
            if output == "json":
                typer.echo(render_json(seen()))
            else:
                console.print(draw(seen()))
            return

        def follow(show: Show) -> None:
            while True:
                show(seen())
                pause.wait(interval)
                while fault := _fault_of(take):
                    show(seen(fault))
                    pause.wait(interval)

        if output == "json":
            follow(lambda frame: typer.echo(json.dumps(to_plain(frame))))
        else:
            with Live(console=console, auto_refresh=False) as live:
                follow(lambda frame: live.update(draw(frame), refresh=True))


def _fault_of(take: Callable[[], None]) -> str:
    """Return why no look could be taken, empty where one was: the one before stays then."""
    try:
        take()
    except SkerryError as error:
        return error.message
    return ""
