"""`skerry pool set`: the operator's terms of a pool: price, capacity class, cordon."""

from typing import Annotated, Any

import typer

from skerry.cli.session import UsageFault, session_of

app = typer.Typer(help="Set what only the operator knows of a pool.", no_args_is_help=True)

PRICE_MAX = 10_000.0  # USD per accelerator-hour: past any price there is, a typing error


@app.command("set")
def set_terms(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The pool, PLANE--POOL.")],
    price: Annotated[
        float | None, typer.Option("--price", help="USD per accelerator-hour.")
    ] = None,
    capacity_class: Annotated[
        str | None, typer.Option("--class", help="reserved, on_demand or spot.")
    ] = None,
    cordon: Annotated[
        bool | None, typer.Option("--cordon/--uncordon", help="Place nothing new on it.")
    ] = None,
) -> None:
    """Change some terms of a pool; what is not given stays as it is."""
    from skerry.cli.render import COLUMNS, render_table
    from skerry.fleet.pool import CapacityClass, PoolTerms

    changes: dict[str, Any] = {}
    if price is not None:
        if not 0 <= price <= PRICE_MAX:  # NaN is in no range
            raise UsageFault(f"--price must be 0..{PRICE_MAX:g} USD per accelerator-hour")
        changes["price_per_accelerator_hour"] = price
    if capacity_class is not None:
        if capacity_class not in list(CapacityClass):
            raise UsageFault(f"--class must be one of {', '.join(CapacityClass)}")
        changes["capacity_class"] = CapacityClass(capacity_class)
    if cordon is not None:
        changes["cordoned"] = cordon
    if not changes:
        raise UsageFault("nothing to set; give --price, --class, --cordon or --uncordon")
    session = session_of(context)
    with session.operator() as client:
        client.get_pool(name)  # terms wait for a pool that is still to come: not for a typing error
        row = client.set_pool_terms(name, PoolTerms(**changes), only=changes.keys())
    session.console().print(render_table(COLUMNS["pools"], (row,)))
