"""The timeline: changes, newest first, by kind, actor and subject; each with all that it did."""

import json
from typing import Any

from control_plane.dashboard.visit import Page, Visit, quoted
from skerry.client import operator_methods as ask
from skerry.plumbing.errors import InvalidInput

CHANGES_ROWS = 60
# What people look for, each as the beginnings of kinds; a test holds that no kind is without.
TOPICS = {
    "planes and failovers": ("plane.", "fleet."),
    "deployments and rollouts": ("deployment.", "rollout."),
    "placements and plans": ("placements.", "plan.", "desired."),
    "pools and prices": ("pool.", "price.", "reservation."),
    "catalogue": ("accelerator-kind.", "base-model.", "cloud.", "profile.", "region."),
    "cordons and drains": ("domain.",),
    "scaling": ("scaling.",),
    "drills": ("drill.",),
    "access": ("token.", "api-key.", "project."),
    "control planes": ("leadership.", "recovery.", "database.", "changes."),
}


async def timeline_page(visit: Visit) -> Page:
    """Return the newest changes that pass, paged."""
    topic, actor, subject = visit.query("topic"), visit.query("actor"), visit.query("subject")
    filters = []
    if topic in TOPICS:
        starts = " OR ".join(f"kind = {quoted(start + '*')}" for start in TOPICS[topic])
        filters.append(f"({starts})")
    if actor:
        filters.append(f"actor:{quoted(actor)}")
    if subject:
        filters.append(f"subject:{quoted(subject)}")
    passes = " AND ".join(filters)
    listing = ask.newest_changes(visit.client.asker, CHANGES_ROWS, passes)
    found = await visit.page(f"changes {passes}", listing, CHANGES_ROWS)
    return Page(
        template="timeline.html",
        title="Timeline",
        values={
            "changes": found.rows,
            "next_token": found.next_token,
            "topics": tuple(TOPICS),
            "topic": topic,
            "actor": actor,
            "subject": subject,
        },
    )


async def change_page(visit: Visit) -> Page:
    """Return one change with what was before and after."""
    told = visit.request.match_info["sequence"]
    if not told.isdecimal() or len(told) > 18:
        raise InvalidInput(f"{told[:40]!r} is no change's number")
    sequence = int(told)
    change = await visit.reading.ask(
        f"change {sequence}", lambda: visit.client.get_change(sequence)
    )
    return Page(
        template="change.html",
        title=f"Change {sequence}",
        values={
            "change": change,
            "before": _pretty(change.before),
            "after": _pretty(change.after),
        },
    )


def _pretty(value: Any) -> str:
    return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
