"""`skerry get KIND [NAME]`: what there is, as a table, JSON or YAML."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import UsageFault, session_of

if TYPE_CHECKING:
    from skerry.client.operator import OperatorClient

KINDS = ("planes", "pools", "deployments", "placements", "replicas", "changes")


def get(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)} (or singular).")],
    name: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or yaml.")] = "table",
) -> None:
    """Show planes, pools, deployments, placements, replicas or changes."""
    from skerry.cli import render

    plural = plural_of(kind)
    if output not in list(render.Format):
        raise UsageFault(f"-o must be one of {', '.join(render.Format)}, not {output!r}")
    session = session_of(context)
    with session.operator() as client:
        found: Any = _one(client, plural, name) if name else _all(client, plural)
    console = session.console()
    if output == render.Format.TABLE:
        listed = (found,) if name else found
        if listed:
            console.print(render.render_table(render.COLUMNS[plural], listed))
        else:
            console.print(f"no {plural}")
    else:
        text = render.render_json(found) if output == "json" else render.render_yaml(found)
        typer.echo(text)


def plural_of(kind: str) -> str:
    """Return the plural of a kind given in either number; UsageFault lists the kinds."""
    for plural in KINDS:
        if kind.lower() in (plural, plural.removesuffix("s")):
            return plural
    raise UsageFault(f"there is no kind {kind!r}; take one of {', '.join(KINDS)}")


def _all(client: "OperatorClient", plural: str) -> Any:
    if plural == "changes":
        return client.latest_changes()
    return getattr(client, f"list_{plural}")()


def _one(client: "OperatorClient", plural: str, name: str) -> Any:
    from skerry.client.operator import find_row

    match plural:
        case "planes":
            return client.get_plane(name)
        case "pools":
            return client.get_pool(name)
        case "deployments":
            return client.get_deployment(name)
        case "changes":
            numbered = [row for row in client.latest_changes() if str(row.sequence) == name]
            return numbered[0] if numbered else find_row((), name, "change")
        case "replicas":
            return find_row(client.list_replicas(), name, "replica")
        case _:
            return find_row(client.list_placements(), name, "placement")
