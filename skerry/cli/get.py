"""`skerry get KIND [NAME]`: what there is, as a table, JSON or YAML."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import UsageFault, session_of
from skerry.cli.watched_rows import printer, watch_rows
from skerry.fleet.observation import HEARD
from skerry.plumbing.clock import SystemClock

if TYPE_CHECKING:
    from skerry.client.operator import OperatorClient
    from skerry.client.operator_calls import Which

ENTRIES = ("accelerator-kinds", "base-models", "reservations", "clouds", "regions", "profiles")
KINDS = (
    *("planes", "pools", "nodes", "deployments", "revisions", "placements", "replicas", "plans"),
    *("rollouts", "service-levels"),
    *("control-planes", "changes"),
    *ENTRIES,
    *("prices", "cordons"),
)
# Of these every row is another's, or there is a better way to follow them.
UNWATCHED = ("revisions", "changes")
# The log is read from its end, so that it has one order and its reverse.
ORDERS_OF_CHANGES = ("", "sequence", "sequence desc")
# Where messages of a kind have their labels.
LABELS = {"planes": "identity.labels", "deployments": "spec.labels"}


def get(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)} (or singular).")],
    name: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or yaml.")] = "table",
    passes: Annotated[
        str, typer.Option("--filter", help="AIP-160, e.g. 'state = CONNECTED AND NOT plane:x'.")
    ] = "",
    order: Annotated[
        str, typer.Option("--sort-by", help="AIP-132, e.g. 'cost_per_hour desc, name'.")
    ] = "",
    selector: Annotated[
        str, typer.Option("-l", "--selector", help="Labels, e.g. tier=gold,team=chat.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Then each row again when it changes.")
    ] = False,
) -> None:
    """Show what there is of a kind: all of it, or one by its name."""
    from skerry.cli import render
    from skerry.client.operator_calls import Which

    plural = plural_of(kind)
    if output not in list(render.Format):
        raise UsageFault(f"-o must be one of {', '.join(render.Format)}, not {output!r}")
    if watch and plural in UNWATCHED:
        raise UsageFault(f"-w is not for {plural}; `skerry watch` follows all changes")
    which = Which(passes=_with_labels(plural, passes, selector), order=order)
    if which != Which() and name and plural != "revisions":
        raise UsageFault(f"{name!r} is one; without a name lists are filtered and ordered")
    if plural == "changes" and order not in ORDERS_OF_CHANGES:
        raise UsageFault(f"changes are sorted by sequence or 'sequence desc', not {order!r}")
    session = session_of(context)
    with session.operator() as client:
        if plural == "revisions":
            found: Any = client.list_revisions(_deployment_of(name), which)
            name = None  # which deployment's, and not one of them
        elif watch:
            asked = partial(_read, client, plural, name, which)
            watch_rows(asked, printer(plural, output, session.console()), SystemClock())
            return
        else:
            found = _one(client, plural, name) if name else read_all(client, plural, which)
        is_asked = plural == "planes" and output == "table" and _is_any_silent(found)
        freeze = client.get_freeze() if is_asked else ""
    console = session.console()
    if output == render.Format.TABLE:
        listed = (found,) if name else found
        if freeze:
            console.print(freeze)
        if listed:
            console.print(render.render_table(render.COLUMNS[plural], listed))
        else:
            console.print(f"no {plural}")
    else:
        text = render.render_json(found) if output == "json" else render.render_yaml(found)
        typer.echo(text)


def _is_any_silent(found: Any) -> bool:
    rows = found if isinstance(found, Sequence) else (found,)
    return any(row.state not in HEARD for row in rows)


def _with_labels(plural: str, passes: str, selector: str) -> str:
    """Return the filter with a condition for each label, `KEY=VALUE` or `KEY`."""
    if not selector:
        return passes
    if plural not in LABELS:
        raise UsageFault(f"-l is for {' and '.join(LABELS)}: the others have no labels")
    conditions = [f"({passes})"] if passes else []
    for part in selector.split(","):
        key, sign, value = part.strip().partition("=")
        if not key or any(character in part for character in '"\\ ()'):
            raise UsageFault(f"-l {part!r} must look like KEY=VALUE or KEY")
        told = f'= "{value}"' if sign else ": *"
        conditions.append(f"{LABELS[plural]}.{key} {told}")
    return " AND ".join(conditions)


def _deployment_of(name: str | None) -> str:
    if not name:
        raise UsageFault("say of which deployment: skerry get revisions DEPLOYMENT")
    return name


def plural_of(kind: str) -> str:
    """Return the plural of a kind given in either number; UsageFault lists the kinds."""
    for plural in KINDS:
        if kind.lower() in (plural, plural.removesuffix("s")):
            return plural
    raise UsageFault(f"there is no kind {kind!r}; take one of {', '.join(KINDS)}")


def _read(client: "OperatorClient", plural: str, name: str | None, which: "Which") -> Sequence[Any]:
    return (_one(client, plural, name),) if name else read_all(client, plural, which)


def read_all(client: "OperatorClient", plural: str, which: "Which") -> Any:
    """Return all rows of a kind, by its plural."""
    if plural == "changes":
        latest = client.latest_changes(passes=which.passes)
        return latest[::-1] if which.order == ORDERS_OF_CHANGES[-1] else latest
    if plural in ENTRIES:
        from skerry.client.catalogue_calls import LISTED_KINDS

        return client.list_entries(LISTED_KINDS[plural], which)
    return getattr(client, f"list_{plural.replace('-', '_')}")(which)


def _one(client: "OperatorClient", plural: str, name: str) -> Any:
    from skerry.client.operator import find_row

    match plural:
        case "planes":
            return client.get_plane(name)
        case "pools":
            return client.get_pool(name)
        case "nodes":
            return client.get_node(name)
        case "deployments":
            return client.get_deployment(name)
        case "changes":
            if not (name.isascii() and name.isdigit()):
                raise UsageFault(f"a change is named by its number, not {name!r}")
            return client.get_change(int(name))
        case kind if kind in ENTRIES:
            from skerry.client.catalogue_calls import LISTED_KINDS

            return client.get_entry(LISTED_KINDS[kind], name)
        case "rollouts":
            return client.get_rollout(name)
        case "service-levels":
            found = client.list_service_levels(deployments=(name,))
            return find_row(found, name, "service level")
        case "plans":
            return find_row(client.list_plans(), name, "plan")
        case "prices":
            raise UsageFault("prices have no name; `skerry get prices` lists them by pool")
        case "cordons":
            return find_row(client.list_cordons(), name, "cordon")
        case "control-planes":
            return find_row(client.list_control_planes(), name, "control plane")
        case "replicas":
            return find_row(client.list_replicas(), name, "replica")
        case _:
            return find_row(client.list_placements(), name, "placement")
