"""`skerry explain plane NAME`: its state, why, the evidence, and what would have to happen."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from skerry.cli.render import Columns, render_table
from skerry.fleet.observation import PeerView, PlaneState
from skerry.fleet.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.verdicts import PlaneExplanation

HISTORY_SHOWN_MAX = 10  # `-o json` has all that is kept

_WITNESSES: Columns = (
    ("WITNESS", lambda r: r.plane),
    ("SEES", lambda r: r.verdict),
    ("SINCE", lambda r: _moment(r.since)),
    ("SAW IT SERVE UNTIL", lambda r: _served(r)),
    ("DOES NOT COUNT", lambda r: r.discounted or "-"),
)
_HISTORY: Columns = (
    ("WHEN", lambda r: _moment(r.judged_at)),
    ("FROM", lambda r: r.before or "-"),
    ("TO", lambda r: r.state),
    ("SILENT", lambda r: "-" if r.declared else f"{r.silent_seconds:.1f} s"),
    ("WITNESSES AGAINST", lambda r: f"{r.against} of {r.witnesses_needed} needed"),
    ("WHY", lambda r: r.reason),
)


def print_plane(console: "Console", found: "PlaneExplanation") -> None:
    """Print all there is to say of a plane."""
    row = found.plane
    since = f", since {_moment(row.since)}" if row.since else ""
    console.print(f"{row.name} is {row.state}{since}: {found.reason}")
    for sentence in found.held_back:
        console.print(f"held back: {sentence}")
    for sentence in found.ending:
        console.print(f"ending: {sentence}")
    if found.verdict is not None:
        console.print(f"evidence: {'; '.join(_evidence(found.verdict))}")
        if found.verdict.witnesses:
            console.print(render_table(_WITNESSES, found.verdict.witnesses))
    if found.until_lost:
        console.print("to be lost:")
        for sentence in found.until_lost:
            console.print(f"  - {sentence}")
    if found.history:
        console.print(render_table(_HISTORY, found.history[:HISTORY_SHOWN_MAX]))


def _evidence(verdict: Verdict) -> Iterator[str]:
    stream = "its stream is up" if verdict.linked else "its stream is down"
    silent, lease = verdict.silent_seconds, verdict.lease_seconds
    yield f"{stream}, silent for {silent:.1f} s of a lease of {lease:g} s"
    if verdict.state is not PlaneState.CONNECTED:
        yield f"{verdict.against} of the {verdict.witnesses_needed} witnesses needed see it fail"
    yield f"{verdict.planes_silent} of {verdict.planes_counted} planes fell silent together"
    if verdict.frozen:
        yield "moves are frozen"
    if verdict.grace:
        yield "nothing expires during the grace"


def _served(view: PeerView) -> str:
    return _moment(view.served_until) if view.served_until else "-"


def _moment(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if moment else "-"
