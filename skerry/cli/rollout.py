"""`skerry rollout pause|resume|undo|status`: how a new revision reaches the planes."""

from typing import Annotated

import typer

from skerry.cli.session import session_of

app = typer.Typer(help="Steer how a new revision reaches the planes.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The deployment.")]


@app.command("status")
def status(context: typer.Context, name: NameArgument) -> None:
    """Say in a sentence where a deployment's rollout stands."""
    explain_rollout(context, name)


@app.command("pause")
def pause(context: typer.Context, name: NameArgument) -> None:
    """Let a rollout begin no other step; the one under way ends."""
    _steer(context, name, "pause")


@app.command("resume")
def resume(context: typer.Context, name: NameArgument) -> None:
    """Let a paused rollout go on; one that was taken back begins again with one replica."""
    _steer(context, name, "resume")


@app.command("undo")
def undo(context: typer.Context, name: NameArgument) -> None:
    """Take the revision under way back on every plane; the file applied stays as it is."""
    _steer(context, name, "undo")


def explain_rollout(context: typer.Context, name: NameArgument) -> None:
    """Say in a sentence where a deployment's rollout stands and what it waits for."""
    from skerry.client.rollouts import sentence_of
    from skerry.plumbing.logs import escape_controls

    session = session_of(context)
    with session.operator() as client:
        row = client.get_rollout(name)
    session.console().print(escape_controls(f"{name}: {sentence_of(row)}"))


def _steer(context: typer.Context, name: str, action: str) -> None:
    from skerry.client.rollouts import sentence_of
    from skerry.plumbing.logs import escape_controls

    session = session_of(context)
    with session.operator() as client:
        row = client.steer_rollout(name, action)
    session.console().print(escape_controls(f"{name}: {sentence_of(row)}"))
