"""`skerry cordon`, `uncordon`, `drain`, `failover` and `move`: what is done to a running fleet.

A part of the fleet is named `plane/X`, `node/PLANE--NODE`, `pool/PLANE--POOL`,
`region/CLOUD/REGION` or `cloud/X`.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import EXIT_FAILED, UsageFault, session_of
from skerry.plumbing.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.operations import DrainRow, FailoverRow

PART_HELP = "plane/X, node/PLANE--NODE, pool/PLANE--POOL, region/CLOUD/REGION or cloud/X."
DEPLOYMENTS_SHOWN_MAX = 20  # of one line of progress
WAITS_SHOWN_MAX = 20  # a cloud may have hundreds of silent planes; `-o json` has all

PartArgument = Annotated[str, typer.Argument(help=PART_HELP)]
Output = Annotated[str, typer.Option("-o", "--output", help="table or json.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]


def cordon(context: typer.Context, part: PartArgument) -> None:
    """Place nothing new in a part of the fleet; what runs there goes on. A drain of it ends."""
    _cordon(context, part, cordoned=True)


def uncordon(context: typer.Context, part: PartArgument) -> None:
    """Let a part of the fleet take replicas again; a drain of it ends where it is."""
    _cordon(context, part, cordoned=False)


def drain(
    context: typer.Context,
    part: PartArgument,
    dry_run: DryRun = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it until nothing is left.")
    ] = True,
    output: Output = "table",
) -> None:
    """Move everything out of a part of the fleet, new before old, and keep it empty.

    It goes on when this command is interrupted; the same command follows it again, and uncordon
    ends it.
    """
    from skerry.cli.render import to_plain
    from skerry.client.operations import DrainState

    check_output(output)
    session = session_of(context)
    named, last = read_part(part), None
    try:
        with session.operator() as client:
            for row in client.drain(named, validate_only=dry_run):
                last = row
                if output == "json":
                    # One line each: who reads it is a program that waits for the next.
                    typer.echo(json.dumps(to_plain(row)))
                else:
                    print_drain(session.console(), part, row)
                if not wait:
                    break
    except (KeyboardInterrupt, Unavailable) as ended:
        if not dry_run and (last is not None or isinstance(ended, KeyboardInterrupt)):
            typer.echo(_goes_on(part, begun=last is not None), err=True)
        raise
    if last is not None and last.state is DrainState.ENDED:
        raise typer.Exit(EXIT_FAILED)


def failover(
    context: typer.Context,
    part: Annotated[str, typer.Argument(help="plane/X, region/CLOUD/REGION or cloud/X.")],
    even_if_serving: Annotated[
        bool,
        typer.Option(
            "--even-if-serving",
            help="Also planes that peers see serving: more than maxReplicas may run for a time.",
        ),
    ] = False,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Declare planes lost that are silent: what was there is placed elsewhere at once."""
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    named = read_part(part)
    with session.operator() as client:
        row = client.failover(named, even_if_serving=even_if_serving, validate_only=dry_run)
    if output == "json":
        typer.echo(render_json(row))
    else:
        print_failover(session.console(), row, "would be" if dry_run else "is")
    if not (row.planes or row.lost_before):
        raise typer.Exit(EXIT_FAILED)


def move(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="The deployment.")],
    source: Annotated[str, typer.Option("--from", help="The pool they leave, PLANE--POOL.")],
    target: Annotated[str, typer.Option("--to", help="The pool they go to, PLANE--POOL.")],
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="How many.")] = 1,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Move replicas from one pool to another, new before old.

    They stay there until supply or demand change; then the scheduler weighs them like any others.
    """
    from skerry.cli.answers import print_plan
    from skerry.cli.render import render_json
    from skerry.client.operations import Move

    check_output(output)
    session = session_of(context)
    asked = Move(deployment=deployment, from_pool=source, to_pool=target, replicas=replicas)
    with session.operator() as client:
        preview = client.move_replica(asked, validate_only=dry_run)
    if output == "json":
        typer.echo(render_json(preview))
        return
    told = f"{replicas} of {deployment} from {source} to {target}"
    # What people want the solver did not choose, so no bound or reason of its own says anything.
    shown = replace(preview, levels=(), solver_reason="")
    print_plan(session.console(), f"{'would move' if dry_run else 'moving'} {told}", shown)


def read_part(text: str) -> str:
    """Return `planes/X` of `plane/X` or `planes/X`; UsageFault for what names no part."""
    from skerry.fleet.cordon import Part, Scope
    from skerry.fleet.names import InvalidName

    scope, _, name = text.partition("/")
    scopes = {known.value: known for known in Scope}
    if scope.removesuffix("s") not in scopes or not name:
        raise UsageFault(f"{text!r} must be {PART_HELP[:-1]}")
    try:
        return Part(scope=scopes[scope.removesuffix("s")], name=name).resource
    except InvalidName as error:
        raise UsageFault(str(error)) from None


def print_drain(console: "Console", part: str, row: "DrainRow") -> None:
    """Print how far a drain is: one line, and what keeps it from going on."""
    left = [
        f"{one.deployment} {one.replicas_left}"
        f" ({one.replicas_ready_elsewhere} of {one.replicas_wanted} ready elsewhere)"
        for one in row.deployments[:DEPLOYMENTS_SHOWN_MAX]
    ]
    more = len(row.deployments) - len(left)
    told = ", ".join([*left, f"and {more} more"] if more > 0 else left)
    plural = "s" if row.replicas_left > 1 else ""
    count = f"{row.replicas_left} replica{plural} left" if row.replicas_left else "nothing left"
    console.print(f"{part} {row.state.value}: {count}{f': {told}' if told else ''}")
    for why in row.waits_for[:WAITS_SHOWN_MAX]:
        console.print(f"  waits: {why}")
    if (unsaid := len(row.waits_for) - WAITS_SHOWN_MAX) > 0:
        console.print(f"  and waits for {unsaid} more")


def print_failover(console: "Console", row: "FailoverRow", verb: str) -> None:
    """Print each plane of a failover: those that are (or would be) lost, and those that are not."""
    for plane in row.planes:
        console.print(f"plane {plane} {verb} declared lost")
    for plane in row.lost_before:
        console.print(f"plane {plane} was lost before")
    for plane in row.heard:
        console.print(f"plane {plane} is heard and left alone")


def _goes_on(part: str, *, begun: bool) -> str:
    told = f"the drain of {part} goes on" if begun else f"the drain of {part} may have begun"
    return f"{told}; `skerry drain {part}` follows it, `skerry uncordon {part}` ends it"


def _cordon(context: typer.Context, part: str, *, cordoned: bool) -> None:
    session = session_of(context)
    named = read_part(part)
    with session.operator() as client:
        changed = client.cordon(named, cordoned=cordoned)
    told = "cordoned" if cordoned else "not cordoned"
    session.console().print(f"{part} is {told}{'' if changed else ' already'}")
