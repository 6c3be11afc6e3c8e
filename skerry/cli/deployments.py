"""`skerry apply`, `skerry plan` and `skerry delete deployment`: what is to be served."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli import catalogue
from skerry.cli.files import read_deployments
from skerry.cli.questions import check_output
from skerry.cli.session import session_of
from skerry.cli.waiting import wait_ready
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import AlreadyExists, DeadlineExceeded, Infeasible, SkerryError

if TYPE_CHECKING:
    from skerry.client.operator import OperatorClient
    from skerry.client.rows import AppliedRow, PlanPreview
    from skerry.fleet.deployment import Deployment

Sourced = Sequence[tuple[str, "Deployment"]]  # each with the file that it is from
Files = Annotated[
    list[str], typer.Option("-f", "--file", help="Deployment file; - is stdin. Repeatable.")
]

delete_app = typer.Typer(help="Delete what is no longer wanted.", no_args_is_help=True)


def apply(
    context: typer.Context,
    file: Files,
    force: Annotated[
        bool, typer.Option("--force", help="Apply also what no pool of the fleet can host.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; change nothing.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option("--wait", help="Wait so many seconds for it to be ready; 0: don't.", min=0.0),
    ] = 0.0,
) -> None:
    """Create deployments or give them a new revision: all those of all files, or none."""
    session = session_of(context)
    deployments = read_deployments(file)
    with session.operator() as client:
        # What is wrong with any of them is told before the scheduler is asked about each.
        done = _apply_all(client, deployments, validate_only=True)
        pending = [_check_one(client, source, one, force) for source, one in deployments]
        if not dry_run:
            done = _apply_all(client, deployments)
    for row, warnings in zip(done, pending, strict=True):
        for text in _lines(row, dry_run=dry_run):
            session.console().print(text)
        for text in warnings:
            session.console().print(f"  warning: pending: {text}")
    if wait and not dry_run:
        names = [deployment.name for _, deployment in deployments]
        with session.operator() as client:
            wait_ready(client, names, wait, session.console(), SystemClock())


def plan(
    context: typer.Context,
    file: Annotated[
        list[str] | None,
        typer.Option("-f", "--file", help="Deployment file; - is stdin. Repeatable."),
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show where replicas would go, at what cost, and why; without a file, the plan in force."""
    from skerry.cli.answers import print_plan
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    deployments = read_deployments(file or ())
    with session.operator() as client:
        plans = [
            (f"plan for deployment {deployment.name}", _plan_one(client, source, deployment))
            for source, deployment in deployments
        ]
        if not file:
            plans.append(("the plan in force", client.get_plan()))
    if output == "json":
        found = [preview for _, preview in plans]
        typer.echo(render_json(found if file else found[0]))
        return
    for title, preview in plans:
        print_plan(session.console(), title, preview)


def approve(
    context: typer.Context, number: Annotated[int, typer.Argument(help="The plan.", min=1)]
) -> None:
    """Put a plan in force that waits for it."""
    _settle(context, number, approved=True)


def reject(
    context: typer.Context, number: Annotated[int, typer.Argument(help="The plan.", min=1)]
) -> None:
    """Refuse a plan that waits; things stay as they are until something else changes."""
    _settle(context, number, approved=False)


def _settle(context: typer.Context, number: int, *, approved: bool) -> None:
    session = session_of(context)
    with session.operator() as client:
        row = client.settle_plan(number, approved=approved)
    session.console().print(f"plan {row.name} is {row.state}: {row.summary}")


def rollback(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The deployment.")],
    to: Annotated[int, typer.Option("--to", min=0, help="The revision; 0 is the one before.")] = 0,
) -> None:
    """Make an earlier revision of a deployment the present one."""
    session = session_of(context)
    with session.operator() as client:
        row = client.rollback(name, to)
    number = row.deployment.revision.number
    session.console().print(f"deployment {name} is at revision {number}")


@delete_app.command("deployment")
def delete_deployment(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Delete a deployment; its replicas drain and end."""
    session = session_of(context)
    with session.operator() as client:
        client.delete_deployment(name)
    session.console().print(f"deployment {name} deleted")


@delete_app.command("reservation")
def delete_reservation(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Delete a reservation; its pool has its own terms again."""
    catalogue.delete_entry(context, "reservations", name)


@delete_app.command("accelerator-kind")
def delete_accelerator_kind(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Delete a kind of accelerator that no pool has."""
    catalogue.delete_entry(context, "accelerator-kinds", name)


@delete_app.command("base-model")
def delete_base_model(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Delete a base model that no deployment serves."""
    catalogue.delete_entry(context, "base-models", name)


def _apply_all(
    client: "OperatorClient", deployments: Sourced, *, validate_only: bool = False
) -> "tuple[AppliedRow, ...]":
    try:
        return client.apply_all([one for _, one in deployments], validate_only=validate_only)
    except SkerryError as error:
        raise _in_files(deployments, error) from None


def _lines(row: "AppliedRow", *, dry_run: bool) -> list[str]:
    """Return what people read of an applied deployment; the fields only of a dry run."""
    told = row.outcome.value
    if dry_run:
        told = "is unchanged" if told == "unchanged" else f"would be {told}"
    number = row.deployment.deployment.revision.number
    lines = [f"deployment {row.deployment.name} {told} (revision {number})"]
    if dry_run:
        lines += [f"  {d.path}: {d.before or '-'} -> {d.after or '-'}" for d in row.diffs]
    return lines


def _check_one(
    client: "OperatorClient", source: str, deployment: "Deployment", force: bool
) -> tuple[str, ...]:
    """Return what would stay pending; Infeasible when no pool can ever host it, unless forced."""
    from skerry.cli import fit

    try:
        preview = _plan_one(client, source, deployment)
    except DeadlineExceeded:
        return ("where it will run was not found out in time; see `skerry get deployments`",)
    except AlreadyExists:
        # All together they are fine: another of them gives up the served name.
        return ("where it will run shows once it has its served name",)
    if fit.is_placed(preview, deployment.name):
        return fit.describe_pending(preview, deployment.name)
    reasons = fit.lasting_rejections(deployment, client.list_planes(), client.list_pools())
    if not reasons:
        return fit.describe_pending(preview, deployment.name)
    misfit = fit.describe_misfit(deployment.name, reasons)
    if not force:
        raise _in_file(source, Infeasible(misfit))
    return tuple(f"{pool}: {reason}" for pool, reason in reasons.items())[: fit.POOLS_SHOWN_MAX]


def _plan_one(client: "OperatorClient", source: str, deployment: "Deployment") -> "PlanPreview":
    try:
        return client.plan(deployment)
    except SkerryError as error:
        raise _in_file(source, error) from None


def _in_files(deployments: Sourced, error: SkerryError) -> SkerryError:
    """Return the server's refusal of several specs with the files and deployments named."""

    def named(text: str) -> str:
        return re.sub(r"\bspecs\[(\d{1,3})\]\.?", _source, text)

    def _source(found: re.Match[str]) -> str:
        index = int(found[1])
        if index >= len(deployments):
            return found[0]
        source, one = deployments[index]
        dot = ": " if found[0].endswith(".") else ""
        return f"{source}: deployment {one.name!r}{dot}"

    return type(error)(
        named(error.message),
        violations=tuple(
            replace(v, path=named(v.path), message=named(v.message)) for v in error.violations
        ),
        retry_after_seconds=error.retry_after_seconds,
        hints=error.hints,
    )


def _in_file(source: str, error: SkerryError) -> SkerryError:
    """Return the server's refusal with the file that it is about."""
    return type(error)(
        f"{source}: {error.message}",
        violations=error.violations,
        retry_after_seconds=error.retry_after_seconds,
        hints=error.hints,
    )
