"""`skerry explain`, `what-if` and `survive`: questions to the scheduler about the fleet as it is.

They change nothing. `skerry schedule` asks the same of a file.
"""

from typing import Annotated

import typer

from skerry.cli import hypotheses
from skerry.cli.session import UsageFault, session_of

explain_app = typer.Typer(help="Say why something is where it is, or is not.", no_args_is_help=True)

Output = Annotated[str, typer.Option("-o", "--output", help="table or json.")]


@explain_app.command("deployment")
def explain_deployment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The deployment.")],
    pool: Annotated[
        str | None, typer.Option("--pool", help="Why there, or why not there: PLANE--POOL.")
    ] = None,
    output: Output = "table",
) -> None:
    """Say why a deployment is where it is, and what would place the rest of it."""
    from skerry.cli.answers import print_explanation
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        found = client.explain(name, pool)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_explanation(session.console(), found)


@explain_app.command("plane")
def explain_plane(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The plane.")],
    output: Output = "table",
) -> None:
    """Say why a plane is judged as it is, and what would have to happen for it to be lost."""
    from skerry.cli.explain_plane import print_plane
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        found = client.explain_plane(name)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_plane(session.console(), found)


def what_if(
    context: typer.Context,
    lose: Annotated[list[str] | None, typer.Option("--lose", help=hypotheses.LOSE_HELP)] = None,
    price: Annotated[list[str] | None, typer.Option("--price", help=hypotheses.PRICE_HELP)] = None,
    demand: Annotated[
        list[str] | None, typer.Option("--demand", help=hypotheses.DEMAND_HELP)
    ] = None,
    output: Output = "table",
) -> None:
    """Show what losses, prices or demand would do to the fleet; changes nothing."""
    from skerry.cli.answers import print_consequences
    from skerry.cli.render import render_json

    check_output(output)
    changes = hypotheses.read_hypotheses(lose or (), price or (), demand or ())
    if not changes:
        raise UsageFault("nothing to ask; give --lose, --price or --demand")
    session = session_of(context)
    with session.operator() as client:
        found = client.what_if(changes)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_consequences(session.console(), changes, found)


def survive(
    context: typer.Context,
    domain: Annotated[
        str | None, typer.Option("--domain", help="Only plane, region or cloud.")
    ] = None,
    output: Output = "table",
) -> None:
    """Show what the loss of each plane, region and cloud would leave of each deployment."""
    from skerry.cli.answers import print_losses
    from skerry.cli.render import render_json

    check_output(output)
    domains = hypotheses.read_domains(domain)
    session = session_of(context)
    with session.operator() as client:
        found = client.survive(domains)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_losses(session.console(), found)


def check_output(output: str) -> None:
    """Refuse a format that is neither table nor json."""
    if output not in ("table", "json"):
        raise UsageFault(f"-o must be table or json, not {output[:63]!r}")
