"""Plans: those that wait for an approval, and each with its diff, cost and moves."""

from control_plane.dashboard.visit import Page, Visit, quoted
from skerry.client import operator_methods as ask
from skerry.client.operator_calls import Which
from skerry.client.rows import PlannedRow
from skerry.fleet.names import full_name
from skerry.plumbing.errors import InvalidInput

# Of a plan's rows; a fleet of thousands moves in one plan.
ROWS_SHOWN = 200
HELD = "held"


async def plans_page(visit: Visit) -> Page:
    """Return the plans, those that wait first."""
    client = visit.client
    held = await visit.reading.ask(
        "plans held", lambda: client.list_plans(Which(passes=f'state = "{HELD}"'))
    )
    found = await visit.page("plans", ask.plans(client.asker))
    return Page(
        template="plans.html",
        title="Plans",
        values={
            "held": held,
            "plans": found.rows,
            "next_token": found.next_token,
            "why_not": _why_not(visit),
        },
    )


async def plan_page(visit: Visit) -> Page:
    """Return one plan with what it changes."""
    number = number_of(visit.request.match_info["number"])
    client = visit.client
    plan = await visit.reading.ask(f"plan {number}", lambda: client.get_plan(number))
    which = Which(passes=f"name = {quoted(full_name(visit.project, 'plans', str(number)))}")
    rows = await visit.reading.ask(f"plan row {number}", lambda: client.list_plans(which))
    changed = [row for row in plan.placements if row.replicas_before != row.replicas_after]
    return Page(
        template="plan.html",
        title=f"Plan {number}",
        values={
            "number": number,
            "row": rows[0] if rows else None,
            "plan": plan,
            "changed": sorted(changed, key=_by_size)[:ROWS_SHOWN],
            "more_changed": max(0, len(changed) - ROWS_SHOWN),
            "moves": [move for one in plan.deployments for move in one.moves][:ROWS_SHOWN],
            "why_not": _why_not(visit),
        },
    )


def number_of(told: str) -> int:
    """Return a plan's number; InvalidInput for what is none."""
    if not told.isdecimal() or len(told) > 18:
        raise InvalidInput(f"{told[:40]!r} is no plan's number")
    return int(told)


def _by_size(row: PlannedRow) -> tuple[int, str, str]:
    return (-abs(row.replicas_after - row.replicas_before), row.deployment, row.pool)


def _why_not(visit: Visit) -> dict[str, str]:
    return {
        "approve": visit.why_not("OperatorService/ApprovePlan"),
        "reject": visit.why_not("OperatorService/RejectPlan"),
    }
