"""`skerry`: the root command, its global options, and the one place where failures end.

Each noun or verb lives in a module of its own; this one only ties them together.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import (
    audit,
    backup,
    bundle,
    catalogue,
    changes,
    chat,
    deployments,
    down,
    drill,
    engine,
    get,
    key,
    load,
    logs,
    manifests,
    operations,
    plane,
    pools,
    profile,
    project,
    questions,
    recover,
    rollout,
    scaling,
    schedule,
    secrets,
    simulate,
    token,
    top,
    up,
    watch,
)
from skerry.cli import describe as describe_command
from skerry.cli.session import EXIT_FAILED, EXIT_USAGE, Session, describe, exit_code_of
from skerry.plumbing.errors import SkerryError

app = typer.Typer(
    name="skerry",
    help="GPUs in many clouds and regions as one pool for LLM inference.",
    no_args_is_help=True,
    add_completion=True,  # `skerry --install-completion` for the shell it is called from
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# May stand anywhere on the line, not only before the command.
_GLOBAL_WITH_VALUE = ("--config", "--endpoint", "--reason")
EXIT_INTERRUPTED = 130  # as a shell has it for SIGINT
_GLOBAL_FLAGS = ("--no-color",)


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="Context file; or SKERRY_CONFIG.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="HOST:PORT; or SKERRY_ENDPOINT.")
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", help="Whose things; or SKERRY_PROJECT; - for all in lists."),
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why: kept with what is changed.")] = "",
) -> None:
    """GPUs in many clouds and regions as one pool for LLM inference."""
    context.obj = Session(
        config=config, endpoint=endpoint, project=project, no_color=no_color, reason=reason
    )


app.command()(up.up)
app.command()(down.down)
app.command()(deployments.apply)
app.command()(deployments.plan)
app.command()(manifests.export)
app.command()(manifests.diff)
app.command()(deployments.approve)
app.command()(deployments.reject)
app.command()(deployments.rollback)
app.add_typer(questions.explain_app, name="explain")
app.command()(questions.what_if)
app.command()(questions.survive)
app.command()(get.get)
app.command()(describe_command.describe)
app.add_typer(deployments.delete_app, name="delete")
app.add_typer(pools.app, name="pool")
app.add_typer(pools.app, name="pools", hidden=True)  # as it was called before
app.add_typer(catalogue.reservations, name="reservation")
app.add_typer(catalogue.accelerators, name="accelerator-kind")
app.add_typer(catalogue.models, name="base-model")
app.add_typer(catalogue.clouds, name="cloud")
app.add_typer(catalogue.regions, name="region")
app.add_typer(catalogue.prices, name="price")
app.add_typer(rollout.app, name="rollout")
questions.explain_app.command("rollout")(rollout.explain_rollout)
app.add_typer(scaling.app, name="scaling")
questions.explain_app.command("scaling")(scaling.explain_scaling)
app.command()(operations.cordon)
app.command()(operations.uncordon)
app.command()(operations.drain)
app.command()(operations.failover)
app.command()(operations.move)
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(recover.app, name="recover")
app.add_typer(project.app, name="project")
app.add_typer(token.app, name="token")
app.add_typer(key.app, name="key")
app.add_typer(secrets.app, name="secrets")
app.add_typer(plane.app, name="plane")
app.command()(changes.changes)
app.add_typer(audit.app, name="audit")
app.command()(watch.watch)
app.command()(top.top)
app.command()(logs.logs)
app.command()(bundle.bundle)
app.command()(chat.chat)
app.command()(load.load)
app.command()(profile.profile)
app.command()(schedule.schedule)
app.command()(simulate.simulate)
app.add_typer(engine.app, name="engine")
app.add_typer(drill.app, name="drill")


@app.command("demo")
def demo() -> None:
    """Tell the story of `make demo`: a control plane dies, a plane dies, users don't notice."""
    from skerry.cli.demo import main as run_demo

    raise typer.Exit(run_demo())


def hoist_global_options(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the global options first, wherever they stood."""
    ahead: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    valued: tuple[str, ...] = _GLOBAL_WITH_VALUE
    if ("token", "create") not in itertools.pairwise(arguments):
        valued = (*valued, "--project")  # that one has its own, for more than one
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            rest += [argument, *waiting]
            break
        if argument in _GLOBAL_FLAGS or argument.startswith(
            tuple(f"{option}=" for option in valued)
        ):
            ahead.append(argument)
        elif argument in valued and waiting:
            ahead += [argument, waiting.pop(0)]
        else:
            rest.append(argument)
    return ahead + rest


def main() -> None:
    """Run the command line; exit 0 done, 1 refused or failed, 2 usage or bad file."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every failure is one clear line on stderr."""
    try:
        code = app(hoist_global_options(arguments), standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.TyperException as fault:
        return _show_usage_fault(fault)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except SkerryError as error:
        typer.echo(f"error: {describe(error)}", err=True)
        return exit_code_of(error)
    except BrokenPipeError:
        # `skerry get ... | head`: the reader has what it wanted.
        sys.stderr.close()
        return EXIT_FAILED
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def _show_usage_fault(fault: typer.TyperException) -> int:
    message = getattr(fault, "format_message", lambda: str(fault))()
    if message.startswith("Usage:"):  # a command without its arguments: the help is the answer
        typer.echo(message, err=True)
        return EXIT_USAGE
    usage = getattr(getattr(fault, "ctx", None), "get_usage", None)
    if usage is not None:
        typer.echo(usage(), err=True)
    typer.echo(f"error: {message}", err=True)
    return EXIT_USAGE


if __name__ == "__main__":
    main()
