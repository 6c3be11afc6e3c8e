"""What each loss would leave, and what changes would do: questions to the scheduler.

They take its time, so a page asks when it is told to, and not with every change.
"""

import math

from control_plane.dashboard.visit import Page, Visit
from skerry.client.questions import Hypothesis, Lose, LossRow, ScaleDemand, ScalePrice
from skerry.fleet.deployment import FailureDomain
from skerry.plumbing.errors import InvalidInput

FACTOR_MAX = 1_000_000.0  # the control plane's own limit; past it a factor is a typing error
LOSSES_SHOWN = 50
# Of the deployments that a loss touches those with the least left come first.
COLUMNS_SHOWN = 12


async def survival_page(visit: Visit) -> Page:
    """Return the forms; the answers come into the page."""
    return Page(
        template="survival.html",
        title="Survival",
        values={"domains": tuple(FailureDomain), **dict.fromkeys(_FIELDS, "")},
    )


async def losses_page(visit: Visit) -> Page:
    """Return the matrix of losses of one kind of domain."""
    told = visit.query("domain") or FailureDomain.PLANE.value
    if told not in list(FailureDomain):
        raise InvalidInput(f"domain must be one of {', '.join(FailureDomain)}")
    losses = await visit.client.survive((FailureDomain(told),))
    ordered = sorted(losses, key=lambda loss: (loss.holds, _least(loss), loss.name))
    names: dict[str, float] = {}
    for loss in ordered:
        for one in loss.survivors:
            share = one.left / one.wanted if one.wanted else 1.0
            names[one.deployment] = min(share, names.get(one.deployment, 1.0))
    columns = sorted(names, key=lambda name: (names[name], name))
    return Page(
        template="losses.html",
        title=f"Loss of any one {told}",
        values={
            "domain": told,
            "losses": ordered[:LOSSES_SHOWN],
            "survivors": {
                loss.name: {one.deployment: one for one in loss.survivors} for loss in losses
            },
            "more_losses": max(0, len(ordered) - LOSSES_SHOWN),
            "columns": columns[:COLUMNS_SHOWN],
            "more_columns": max(0, len(columns) - COLUMNS_SHOWN),
            "broken": sum(not loss.holds for loss in ordered),
        },
        is_part=visit.is_part,
    )


_FIELDS = ("lose", "lose_name", "price", "price_pool", "demand", "demand_deployment")


async def what_if_page(visit: Visit) -> Page:
    """Return what the changes of the query would do, together."""
    told = {name: visit.query(name) for name in _FIELDS}
    changes = read_changes(told)
    found = await visit.client.what_if(changes)
    return Page(
        template="what_if.html",
        title="What if",
        values={"found": found, "told": told},
        is_part=visit.is_part,
    )


def read_changes(told: dict[str, str]) -> tuple[Hypothesis, ...]:
    """Return the changes that a form tells; InvalidInput says what is missing or no factor."""
    found: list[Hypothesis] = []
    if told["lose_name"]:
        if told["lose"] not in list(FailureDomain):
            raise InvalidInput("say what is lost: a plane, a region or a cloud")
        found.append(Lose(domain=FailureDomain(told["lose"]), name=told["lose_name"]))
    if told["price"]:
        factor = _factor(told["price"], "price")
        found.append(ScalePrice(factor=factor, pool=told["price_pool"] or None))
    if told["demand"]:
        factor = _factor(told["demand"], "demand")
        found.append(ScaleDemand(factor=factor, deployment=told["demand_deployment"] or None))
    if not found:
        raise InvalidInput("say at least one change: what is lost, a price or a demand")
    return tuple(found)


def _factor(text: str, what: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0.0 <= factor <= FACTOR_MAX:  # NaN is in no range
        raise InvalidInput(f"{what} must be a factor from 0 to {FACTOR_MAX:g}, such as 1.5")
    return factor


def _least(loss: LossRow) -> float:
    return min((one.left / one.wanted for one in loss.survivors if one.wanted), default=1.0)
