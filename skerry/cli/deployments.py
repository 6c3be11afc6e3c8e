"""`skerry apply`, `skerry plan` and `skerry delete deployment`: what is to be served."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli import catalogue
from skerry.cli.files import read_deployments, read_objects
from skerry.cli.questions import check_output
from skerry.cli.session import session_of
from skerry.cli.waiting import wait_ready
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import AlreadyExists, DeadlineExceeded, Infeasible, SkerryError

if TYPE_CHECKING:
    from skerry.client.manifest import Object
    from skerry.client.operator import OperatorClient
    from skerry.client.rows import AppliedEverything, PlanPreview
    from skerry.fleet.deployment import Deployment
    from skerry.fleet.intent import Intent

Sourced = Sequence[tuple[str, "Object"]]  # each with the file that it is from
# When what starts is ready, and warnings of what does not, by the deployment's name.
Pending = Mapping[str, tuple[str, ...]]
Files = Annotated[
    list[str], typer.Option("-f", "--file", help="File or directory; - is stdin. Repeatable.")
]
# How the API names one of what it was given.
_NUMBERED = re.compile(
    r"\b(?:specs\[(?P<spec>\d{1,4})\]|intents\[(?P<intent>\d{1,4})\](?:\.[a-z_]+)?)\.?"
)

_LATE = (
    "warning: pending: where it will run was not found out in time; see `skerry get deployments`"
)

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
    """Apply all that the files say, or nothing; what they do not say stays as it is."""
    session = session_of(context)
    objects = read_objects(file)
    with session.operator() as client:
        # What is wrong with any of it is told before the scheduler is asked about each.
        done = _apply_all(client, objects, validate_only=True)
        pending = _pending(client, objects, force)
        if not dry_run:
            done = _apply_all(client, objects)
            if any(row.outcome.value != "unchanged" for row in done.intents):
                # Found before prices and terms of these files were in force.
                pending = {name: _still_pending(client, name) for name in pending}
    console = session.console()
    for text in _report(objects, done, pending, dry_run=dry_run):
        console.print(text)
    if wait and not dry_run and done.deployments:
        names = [row.deployment.name for row in done.deployments]
        with session.operator() as client:
            wait_ready(client, names, wait, console, SystemClock())


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
    from skerry.cli.figures import measured_lines
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    deployments = read_deployments(file or ())
    with session.operator() as client:
        plans = [
            (deployment.name, _plan_one(client, source, deployment))
            for source, deployment in deployments
        ]
        if not file:
            plans.append(("", client.get_plan()))
    if output == "json":
        found = [preview for _, preview in plans]
        typer.echo(render_json(found if file else found[0]))
        return
    console, now = session.console(), SystemClock().now()
    for name, preview in plans:
        title = f"plan for deployment {name}" if name else "the plan in force"
        print_plan(console, title, preview)
        for line in measured_lines(preview, name, now):
            console.print(f"  {line}", style="dim", markup=False)


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


@delete_app.command("cloud")
def delete_cloud(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Forget what was registered of a cloud; its planes stay."""
    catalogue.delete_entry(context, "clouds", name)


@delete_app.command("region")
def delete_region(
    context: typer.Context, name: Annotated[str, typer.Argument(help="CLOUD/REGION.")]
) -> None:
    """Forget what was registered of a region, its latencies too; its planes stay."""
    catalogue.delete_entry(context, "regions", name)


@delete_app.command("profile")
def delete_profile(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Forget what `skerry profile` measured; the scheduler counts with it no more."""
    catalogue.delete_entry(context, "profiles", name)


def _apply_all(
    client: "OperatorClient", objects: Sourced, *, validate_only: bool = False
) -> "AppliedEverything":
    from skerry.client.fleet_intent import split

    deployments, intents = split(one for _, one in objects)
    try:
        return client.apply_everything(deployments, intents, validate_only=validate_only)
    except SkerryError as error:
        raise _in_files(objects, error) from None


def _report(
    objects: Sourced, done: "AppliedEverything", pending: Pending, *, dry_run: bool
) -> Iterator[str]:
    """Yield what people read of each object, in the files' order; fields only of a dry run."""
    from skerry.client.manifest_intents import label_of, noun_of
    from skerry.fleet.deployment import Deployment

    rows, intents = iter(done.deployments), iter(done.intents)
    for _, one in objects:
        if isinstance(one, Deployment):
            row = next(rows)
            number = row.deployment.deployment.revision.number
            told = _outcome(row.outcome.value, dry_run=dry_run)
            yield f"deployment {one.name} {told} (revision {number})"
            diffs = row.diffs
        else:
            applied = next(intents)
            told = _outcome(applied.outcome.value, dry_run=dry_run)
            yield f"{noun_of(one)} {label_of(one)} {told}"
            diffs = applied.diffs
        if dry_run:
            yield from (f"  {d.path}: {d.before or '-'} -> {d.after or '-'}" for d in diffs)
        if isinstance(one, Deployment):
            yield from (f"  {line}" for line in pending.get(one.name, ()))


def _outcome(outcome: str, *, dry_run: bool) -> str:
    if not dry_run:
        return outcome
    return "is unchanged" if outcome == "unchanged" else f"would be {outcome}"


def _pending(client: "OperatorClient", objects: Sourced, force: bool) -> Pending:
    """Return when each deployment would be ready and what would stay pending, as the fleet is now.

    Infeasible when no pool can ever host one, with what the files say of pools, unless forced.
    """
    from skerry.client.fleet_intent import split
    from skerry.fleet.deployment import Deployment

    _, intents = split(one for _, one in objects)
    found = {
        one.name: _check_one(client, source, one, intents, force)
        for source, one in objects
        if isinstance(one, Deployment)
    }
    return {name: why for name, why in found.items() if why}


def _still_pending(client: "OperatorClient", name: str) -> tuple[str, ...]:
    """Return when a deployment that was applied is ready, and what of it is pending now."""
    try:
        preview = client.plan(client.get_deployment(name).deployment)
    except SkerryError:  # it was applied all the same
        return (_LATE,)
    return _expected(preview, name)


def _check_one(
    client: "OperatorClient",
    source: str,
    deployment: "Deployment",
    intents: "Sequence[Intent]",
    force: bool,
) -> tuple[str, ...]:
    """Return what would stay pending; Infeasible when no pool can ever host it, unless forced."""
    from skerry.cli import fit

    try:
        preview = _plan_one(client, source, deployment)
    except DeadlineExceeded:
        return (_LATE,)
    except AlreadyExists:
        # All together they are fine: another of them gives up the served name.
        return ("warning: pending: where it will run shows once it has its served name",)
    if fit.is_placed(preview, deployment.name):
        return _expected(preview, deployment.name)
    pools = fit.as_said(client.list_pools(), intents)
    reasons = fit.lasting_rejections(deployment, client.list_planes(), pools)
    if not reasons:
        return _expected(preview, deployment.name)
    misfit = fit.describe_misfit(deployment.name, reasons)
    if not force:
        raise _in_file(source, Infeasible(misfit))
    warnings = tuple(f"warning: pending: {pool}: {reason}" for pool, reason in reasons.items())
    return warnings[: fit.POOLS_SHOWN_MAX]


def _expected(preview: "PlanPreview", name: str) -> tuple[str, ...]:
    """Return when what a plan starts of a deployment is ready, and what of it stays pending."""
    from skerry.cli import answers, fit

    mine = (row for row in preview.deployments if row.deployment == name)
    ready = tuple(line for row in mine if (line := answers.describe_readiness(row)) is not None)
    warnings = (f"warning: pending: {why}" for why in fit.describe_pending(preview, name))
    return (*ready, *warnings)


def _plan_one(client: "OperatorClient", source: str, deployment: "Deployment") -> "PlanPreview":
    try:
        return client.plan(deployment)
    except SkerryError as error:
        raise _in_file(source, error) from None


def _in_files(objects: Sourced, error: SkerryError) -> SkerryError:
    """Return the server's refusal of several things with the files and things named."""
    from skerry.client.fleet_intent import split
    from skerry.client.manifest import in_words

    deployments, intents = split(one for _, one in objects)
    source_of = {id(one): source for source, one in objects}

    def named(text: str) -> str:
        return _NUMBERED.sub(_source, text)

    def _source(found: re.Match[str]) -> str:
        listed: Sequence[Object] = deployments if found["spec"] else intents
        index = int(found["spec"] or found["intent"])
        if index >= len(listed):
            return found[0]
        one = listed[index]
        dot = ": " if found[0].endswith(".") else ""
        return f"{source_of[id(one)]}: {in_words(one)}{dot}"

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
