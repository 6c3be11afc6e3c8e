"""How `skerry audit residency` shows a proof: what is proven, what left, and what is not proven."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from skerry.client.residency import DeploymentResidencyRow, OutsideRow, ResidencyRow, UnprovedRow

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_MAX = 50  # lines of each kind; `-o json` has what was told


def show_proof(console: "Console", row: ResidencyRow) -> None:
    """Print a proof, with the bad news by name."""
    span = f"{_time(row.since)} to {_time(row.until)}"
    if not row.deployments:
        console.print(f"{span}: no deployment has residency zones, or had some")
    for one in row.deployments:
        console.print(f"{one.deployment}: {_judged(one, row)}", soft_wrap=True)
        _lines(console, [_left(left) for left in one.left])
        _lines(console, [_gap(gap) for gap in one.unproved])
    if row.unproved:
        console.print(f"not proven, {row.unproved_count} times:")
        _lines(console, [_gap(gap) for gap in row.unproved])
    if row.proven:
        console.print(f"{span}: proven")


def _judged(one: DeploymentResidencyRow, row: ResidencyRow) -> str:
    zones = ", ".join(one.zones) or "no zones now"
    told = f"{one.inside} requests inside ({zones}), {one.outside} outside"
    if one.without_policy:
        told += f", {one.without_policy} through gateways that held no policy then"
    if one.proven:
        return f"{told}: none left"
    if one.outside:
        return f"{told}: SOME LEFT"
    return f"{told}: none seen to leave, but not all is proven"


def _left(left: OutsideRow) -> str:
    where = f"zones {', '.join(left.zones)}" if left.zones else "no zone that was known"
    way = (
        f"served by {left.plane}"
        if left.gateway == left.plane
        else f"{left.gateway} to {left.plane}"
    )
    allowed = ", ".join(left.allowed)
    return (
        f"{_time(left.minute)}: {left.count} requests, {way} ({where}; allowed {allowed},"
        f" version {left.version})"
    )


def _gap(gap: UnprovedRow) -> str:
    return f"{_time(gap.since)} to {_time(gap.until)}: {gap.plane}: {gap.reason}"


def _lines(console: "Console", lines: Iterable[str]) -> None:
    told = list(lines)
    for line in told[:SHOWN_MAX]:
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    if len(told) > SHOWN_MAX:
        console.print(f"  and {len(told) - SHOWN_MAX} more; `-o json` has them")


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
