"""What a plan's figures rest on, in lines for people: what was measured, when, and what was not.

`skerry plan -f` prints them below its tables. PURE: takes `now`.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from skerry.client.rows import PlanPreview, ThroughputRow
from skerry.fleet.cold_start import StartSource, as_text
from skerry.fleet.figures import FigureSource

_READY = {
    StartSource.STARTS: "starts of this very kind, as planes measured them",
    StartSource.PROFILE: "the load time of its profile; no start of this very kind was measured",
    StartSource.SIMILAR_STARTS: "starts of a similar kind; none of this very kind was measured",
    StartSource.NONE: "nothing: no start like it was measured, and no profile tells its load time",
}


def measured_lines(preview: PlanPreview, deployment: str, now: datetime) -> Iterator[str]:
    """Yield what the throughput and the time to ready of a planned deployment come from."""
    row = next((row for row in preview.deployments if row.deployment == deployment), None)
    if row is None:
        return
    for figure in row.throughputs:
        yield f"measured: {_throughput(figure, row.throughput_source, deployment, now)}"
    if row.ready_source in list(StartSource):
        yield f"time to ready: from {_READY[StartSource(row.ready_source)]}"


def age(seconds: float) -> str:
    """Return an age as people say it: of minutes, hours or days."""
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name} old"
    return "just measured" if seconds < 60 else "1 minute old"


def _throughput(figure: ThroughputRow, source: str, deployment: str, now: datetime) -> str:
    told = _told(figure, now)
    if source == FigureSource.DEPLOYMENT:
        own = figure.tokens_per_second
        said = f"{own:,.1f} tokens/s on {figure.accelerator} is" if own else "the figures are"
        beside = f"; {told}" if told else f", nothing was measured on {figure.accelerator}"
        return f"not used: {said} the operator's own{beside}"
    if source == FigureSource.PROFILE and told:
        return told
    if told:
        return f"not used, for want of figures of every accelerator in time: {told}"
    return (
        f"nothing on {figure.accelerator}: every replica counts alike;"
        f" `skerry profile {deployment}` measures one that runs"
    )


def _told(figure: ThroughputRow, now: datetime) -> str:
    """Return what a profile says, "" where there is none."""
    if not figure.profile or figure.measured_at is None:
        return ""
    old = age(max(timedelta(), now - figure.measured_at).total_seconds())
    speed = figure.measured_tokens_per_second
    yields = "at no concurrency in time" if speed is None else f"{speed:,.1f} tokens/s in time"
    load = f", loaded in {as_text(figure.load_seconds)}" if figure.load_seconds else ""
    return f"{yields} on {figure.accelerator}{load} (profile {figure.profile}, {old})"
