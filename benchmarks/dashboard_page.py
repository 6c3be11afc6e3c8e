"""The page of the dashboard's benchmark, from its results."""

from collections.abc import Mapping
from typing import Any

_PAGE = """# The dashboard with a large fleet

Made by `make bench-dashboard` on {machine}; the load average was {load:g}
before it. {planes:,} planes and {deployments:,} deployments of three placements each in the
real store, behind the real operator API; a real headless Chromium on the same machine. *First* is
the first visit of a page, for the fleet's that which a sign-in lands on, where its sums are made;
*again* is the median of {times} more; the browser's own clock tells both.

* First paint within {target:g} s: {verdict}. The slowest is {slowest} with {seconds:.2f} s.

| page | first: first paint, s | again: answer whole, s | again: first paint, s |
|---|---|---|---|
{rows}

Pages are of 50 rows at most, whatever the fleet's size ([dashboard](../operating/dashboard.md)).
Nobody else asked meanwhile, and no plane reported. What asks the scheduler (losses, what-if, why)
was not measured at this size.
"""


def page_of(values: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    pages, target = values["pages"], values["target_painted_s"]
    slowest = max(pages, key=lambda name: _worst(pages[name]))
    over = [name for name in pages if _worst(pages[name]) > target]
    return _PAGE.format(
        machine=values["machine"],
        load=values["load_before"],
        planes=values["planes"],
        deployments=values["deployments"],
        times=values["times"],
        target=target,
        verdict=f"**missed** by {', '.join(over)}" if over else "reached by every page",
        slowest=slowest,
        seconds=_worst(pages[slowest]),
        rows="\n".join(
            f"| {name} | {page['first_paint_s']:.2f} | {page['answered_s']:.2f} |"
            f" {page['painted_s']:.2f} |"
            for name, page in pages.items()
        ),
    )


def _worst(page: Mapping[str, float]) -> float:
    return max(page["first_paint_s"], page["painted_s"])
