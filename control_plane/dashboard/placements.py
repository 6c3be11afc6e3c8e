"""The placement matrix, deployments by pools, and why a deployment is or is not on a pool."""

import asyncio

from control_plane.dashboard.visit import Page, Visit, any_of, quoted
from skerry.client import operator_methods as ask
from skerry.client.operator_calls import Which
from skerry.client.rows import PlacementRow

MATRIX_ROWS = 30
# As many columns as a wide screen has room for.
MATRIX_COLUMNS = 14


async def placements_page(visit: Visit) -> Page:
    """Return the matrix: a page of deployments by a page of pools."""
    name, pool = visit.query("name"), visit.query("pool")
    client = visit.client
    passes = f"spec.name:{quoted(name)}" if name else ""
    found = await visit.page(
        f"matrix {passes}", ask.deployments(client.asker, Which(passes=passes)), MATRIX_ROWS
    )
    columns_token = visit.request.query.get("columns", "")
    of_pools = ask.pools(client.asker, Which(passes=f"name:{quoted(pool)}" if pool else ""))
    call = of_pools(columns_token)
    call.request.page_size = MATRIX_COLUMNS
    pools = await visit.reading.ask(f"columns {pool} {columns_token}", lambda: client.run(call))
    placed = await _placed(visit, [row.name for row in found.rows])
    return Page(
        template="placements.html",
        title="Placements",
        values={
            "deployments": found.rows,
            "next_token": found.next_token,
            "pools": pools.rows,
            "next_columns": pools.next_token,
            "columns": columns_token,
            "placed": {(one.deployment, one.pool): one for one in placed},
            "elsewhere": _elsewhere(placed, {one.name for one in pools.rows}),
            "name": name,
            "pool": pool,
        },
    )


async def why_page(visit: Visit) -> Page:
    """Return why a deployment is where it is, or why it is or is not on one pool."""
    deployment, pool = visit.query("deployment"), visit.query("pool")
    told = await visit.client.explain(deployment, pool or None)
    return Page(
        template="why.html",
        title=f"Why {deployment}",
        values={"told": told, "deployment": deployment, "pool": pool},
        is_part=visit.is_part,
    )


async def _placed(visit: Visit, names: list[str]) -> tuple[PlacementRow, ...]:
    client = visit.client

    async def some(passes: str) -> tuple[PlacementRow, ...]:
        which = Which(passes=passes)
        return await visit.reading.ask(f"placed {passes}", lambda: client.list_placements(which))

    found = await asyncio.gather(*map(some, any_of("deployment", names)))
    return tuple(row for rows in found for row in rows)


def _elsewhere(placed: tuple[PlacementRow, ...], shown: set[str]) -> dict[str, int]:
    """Return by deployment the replicas on pools that are not among the columns."""
    counted: dict[str, int] = {}
    for one in placed:
        if one.pool not in shown:
            counted[one.deployment] = counted.get(one.deployment, 0) + one.replicas
    return counted
