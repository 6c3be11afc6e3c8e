"""The deployments' page and one deployment's: replicas by plane, rollout, load, scaling, cost."""

import asyncio
from dataclasses import fields

from control_plane.dashboard.scaling_plot import plot_scaling
from control_plane.dashboard.visit import Page, Visit, any_of, quoted
from skerry.client import operator_methods as ask
from skerry.client.operator_calls import Which
from skerry.client.rollouts import RolloutRow, sentence_of
from skerry.client.service_levels import ServiceLevelRow
from skerry.fleet.answers import FIRST_TOKEN_SECONDS, INTERVAL_SECONDS
from skerry.fleet.autoscaling.load import STALE_SECONDS, LoadReading
from skerry.plumbing.errors import NotFound

# Some hours of a loop that decides twice a minute and keeps what differs.
DECISIONS_SHOWN = 200
DECISIONS_LISTED = 20
REVISIONS_SHOWN = 20
_BOUNDS = {
    "first_longest": FIRST_TOKEN_SECONDS[-1],
    "interval_longest": INTERVAL_SECONDS[-1],
    # Planes tell every few seconds; what is older than three of those is marked with its age.
    "old_seconds": STALE_SECONDS,
}
_ORDERS = {"cost": "status.cost_per_hour desc", "replicas": "status.replicas_wanted desc"}


async def deployments_page(visit: Visit) -> Page:
    """Return a table of deployments, paged."""
    name, order = visit.query("name"), visit.query("order")
    only = visit.query("only")
    filters = [f"spec.name:{quoted(name)}"] if name else []
    if only == "pending":
        filters.append("status.pending:*")
    which = Which(passes=" AND ".join(filters), order=_ORDERS.get(order, ""))
    key = f"deployments {which.passes} {which.order}"
    found = await visit.page(key, ask.deployments(visit.client.asker, which))
    names = [row.name for row in found.rows]
    rollouts, levels = await asyncio.gather(_rollouts(visit, names), _levels(visit, names))
    return Page(
        template="deployments.html",
        title="Deployments",
        values={
            "deployments": found.rows,
            "next_token": found.next_token,
            "rollouts": rollouts,
            "levels": levels,
            **_BOUNDS,
            "name": name,
            "order": order,
            "only": only,
        },
    )


async def deployment_page(visit: Visit) -> Page:
    """Return one deployment."""
    name, client = visit.request.match_info["name"], visit.client
    row = await visit.reading.ask(f"deployment {name}", lambda: client.get_deployment(name))
    rollout = (await _rollouts(visit, [name])).get(name)
    level = (await _levels(visit, [name])).get(name)
    scaling = await visit.reading.ask(
        f"scaling of {name}", lambda: client.explain_scaling(name, DECISIONS_SHOWN)
    )
    which = Which(passes=f"deployment = {quoted(name)}")
    placed = await visit.page(f"placements of {name}", ask.placements(client.asker, which))
    revisions = await visit.reading.ask(
        f"revisions of {name}", lambda: client.run(ask.revisions(client.asker, name)(""))
    )
    loads = {one.plane: one.reading for one in scaling.planes if one.reading is not None}
    return Page(
        template="deployment.html",
        title=f"Deployment {name}",
        values={
            "row": row,
            "rollout": rollout,
            "level": level,
            **_BOUNDS,
            "sentence": "" if rollout is None else sentence_of(rollout),
            "scaling": scaling,
            "plot": plot_scaling(scaling.decisions, scaling.max_replicas),
            "decisions": scaling.decisions[:DECISIONS_LISTED],
            "placements": placed.rows,
            "next_token": placed.next_token,
            "revisions": revisions.rows[:REVISIONS_SHOWN],
            "loads": loads,
            "whole": _sum_loads(tuple(loads.values())),
            "why_not": {
                verb: visit.why_not(method)
                for verb, method in (
                    ("scaling", "OperatorService/UpdateDeployment"),
                    ("rollback", "OperatorService/RollbackDeployment"),
                    ("rollout", "OperationsService/SteerRollout"),
                    ("move", "OperationsService/MoveReplica"),
                )
            },
        },
    )


async def _levels(visit: Visit, names: list[str]) -> dict[str, ServiceLevelRow]:
    """Return how answers of these deployments went."""
    if not names:
        return {}
    listing = ask.service_levels(visit.client.asker, deployments=tuple(names))
    key = f"levels {' '.join(names)}"
    rows = await visit.reading.ask(key, lambda: visit.client.run(listing("")))
    return {row.name: row for row in rows.rows}


async def _rollouts(visit: Visit, names: list[str]) -> dict[str, RolloutRow]:
    """Return the rollouts of these deployments; none was decided for some."""
    client = visit.client

    async def some(passes: str) -> tuple[RolloutRow, ...]:
        try:
            return await visit.reading.ask(
                f"rollouts {passes}", lambda: client.list_rollouts(Which(passes=passes))
            )
        except NotFound:
            return ()

    found = await asyncio.gather(*map(some, any_of("deployment", names)))
    return {row.name: row for rows in found for row in rows}


def _sum_loads(loads: tuple[LoadReading, ...]) -> LoadReading | None:
    if not loads:
        return None
    names = [field.name for field in fields(LoadReading)]
    return LoadReading(**{name: sum(getattr(one, name) for one in loads) for name in names})
