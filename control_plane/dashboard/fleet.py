"""The fleet's page and a plane's: states with their evidence, capacity, prices, and where it is."""

import asyncio

from control_plane.dashboard.capacity import Summary, ceilings_by_pool, sum_fleet
from control_plane.dashboard.visit import Page, Visit, quoted
from skerry.client import operator_methods as ask
from skerry.client.operator_calls import Which
from skerry.client.rows import PlacementRow, PlaneRow
from skerry.client.verdicts import PlaneExplanation
from skerry.fleet.observation import HEARD, PlaneState
from skerry.plumbing.errors import SkerryError

# Ceilings are told by placement: more than that would keep the control plane busy for a picture.
PLACEMENTS_SUMMED_MAX = 2_000
# Of the planes on one page that are not heard: each is one call, and the evidence of each is shown.
EXPLAINED_MAX = 20
DOTS_MAX = 60  # planes that are drawn one by one in a region


async def fleet_page(visit: Visit) -> Page:
    """Return the fleet: sums, places, and a table of planes, paged."""
    summary = await visit.reading.ask("summary", lambda: _sum(visit), rests=True)
    name, state = visit.query("name"), visit.query("state")
    filters = [f"identity.name:{quoted(name)}"] if name else []
    if state in list(PlaneState):
        filters.append(f"state = {state.upper()}")
    which = Which(passes=" AND ".join(filters))
    client = visit.client
    rows = await visit.page(f"planes {which.passes}", ask.planes(client.asker, which))
    freeze = await visit.reading.ask("freeze", client.get_freeze)
    recovery = await visit.reading.ask("recovery", client.get_recovery)
    control_planes = await visit.reading.ask("control planes", client.list_control_planes)
    return Page(
        template="fleet.html",
        title="Fleet",
        values={
            "summary": summary,
            "planes": rows.rows,
            "next_token": rows.next_token,
            "explained": await _explained(visit, rows.rows),
            "freeze": freeze,
            "recovery": recovery,
            "control_planes": control_planes,
            "states": tuple(PlaneState),
            "name": name,
            "state": state,
            "dots_max": DOTS_MAX,
        },
    )


async def plane_page(visit: Visit) -> Page:
    """Return one plane: how it is judged and why, its pools, and what is placed there."""
    name = visit.request.match_info["name"]
    client = visit.client
    told = await visit.reading.ask(f"plane {name}", lambda: client.explain_plane(name))
    which = Which(passes=f"plane = {quoted(name)}")
    pools = await visit.reading.ask(f"pools of {name}", lambda: client.list_pools(which))
    placed = await visit.page(f"placements of {name}", ask.placements(client.asker, which))
    return Page(
        template="plane.html",
        title=f"Plane {name}",
        values={
            "told": told,
            "pools": pools,
            "placements": placed.rows,
            "next_token": placed.next_token,
            "why_not": {
                verb: visit.why_not(method, (name,))
                for verb, method in (
                    ("cordon", "CatalogueService/Cordon"),
                    ("drain", "OperationsService/Drain"),
                    ("failover", "OperationsService/Failover"),
                )
            },
        },
    )


async def _sum(visit: Visit) -> Summary:
    client = visit.client
    planes, pools = await asyncio.gather(client.list_planes(), client.list_pools())
    placements: list[PlacementRow] | None = []
    assert placements is not None
    async for row in client.iter_placements():
        placements.append(row)
        if len(placements) > PLACEMENTS_SUMMED_MAX:
            placements = None
            break
    ceilings = None
    if placements is not None:
        deployments = await client.list_deployments()
        ceilings = ceilings_by_pool(placements, deployments, pools)
    return sum_fleet(planes, pools, ceilings)


async def _explained(visit: Visit, planes: tuple[PlaneRow, ...]) -> dict[str, PlaneExplanation]:
    """Return the evidence on planes that are not heard; of one that cannot be had there is none."""
    unheard = [plane.name for plane in planes if plane.state not in HEARD][:EXPLAINED_MAX]

    async def of(name: str) -> PlaneExplanation | None:
        try:
            return await visit.reading.ask(
                f"plane {name}", lambda: visit.client.explain_plane(name)
            )
        except SkerryError:
            return None

    told = await asyncio.gather(*(of(name) for name in unheard))
    return {name: one for name, one in zip(unheard, told, strict=True) if one is not None}
