"""`skerry export` and `skerry diff`: the fleet's intent as files, and files against it."""

import difflib
from typing import Annotated

import typer

from skerry.cli.files import read_deployments
from skerry.cli.session import EXIT_FAILED, session_of
from skerry.plumbing.errors import NotFound


def export(context: typer.Context) -> None:
    """Print every deployment as files that `apply` accepts back unchanged."""
    from skerry.cli.render import render_yaml

    session = session_of(context)
    with session.operator() as client:
        found = client.list_deployments()
    if found:
        typer.echo(render_yaml(found))


def diff(
    context: typer.Context,
    file: Annotated[
        list[str], typer.Option("-f", "--file", help="Deployment file; - is stdin. Repeatable.")
    ],
) -> None:
    """Show what applying files would change, as a unified diff; exit 1 when anything would."""
    session = session_of(context)
    changed = False
    wanted = read_deployments(file)
    with session.operator() as client:
        for source, deployment in wanted:
            try:
                held = client.get_deployment(deployment.name).deployment
            except NotFound:
                held = None
            lines = list(
                difflib.unified_diff(
                    _lines(held),
                    _lines(deployment),
                    "in force" if held else "not there yet",
                    source,
                    lineterm="",
                )
            )
            changed = changed or bool(lines)
            for line in lines:
                session.console().print(line, style=_style(line))
    if changed:
        raise typer.Exit(EXIT_FAILED)


def _lines(deployment: object) -> list[str]:
    """Return a deployment as the lines of its file, with every default left out."""
    import yaml

    from skerry.client.manifest_rendering import render_manifest
    from skerry.fleet.deployment import Deployment

    if not isinstance(deployment, Deployment):
        return []
    return yaml.safe_dump(render_manifest(deployment), sort_keys=False).splitlines()


def _style(line: str) -> str | None:
    if line.startswith("+"):
        return "green"
    return "red" if line.startswith("-") else None
