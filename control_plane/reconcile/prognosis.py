"""What would have to happen for a plane to be lost, said of the evidence that there is. Pure.

`skerry explain plane` shows it; the rules themselves are in `classify`.
"""

from collections.abc import Iterable

from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.observation import HEARD, PeerVerdict, PeerView, PlaneState
from skerry.fleet.verdict import Verdict


def until_lost(plane: str, verdict: Verdict, snapshot: Snapshot) -> tuple[str, ...]:
    """Return a sentence for each thing that is missing; none of a plane that is lost."""
    if verdict.state is PlaneState.LOST:
        return ()
    if verdict.state in HEARD:
        silent = f"it would have to fall silent for its lease of {verdict.lease_seconds:g} s"
        return (silent, *_witnesses(plane, verdict, snapshot))
    missing = []
    if (left := verdict.lease_seconds - verdict.silent_seconds) > 0:
        missing.append(f"its lease would have to run out, in {left:.0f} s")
    if (left := snapshot.grace_left_seconds) > 0:
        missing.append(
            f"the grace after the control plane's or its database's absence would have to end, in"
            f" {left:.0f} s"
        )
    if verdict.frozen:
        missing.append(
            f"moves would have to be frozen no more: {verdict.planes_silent} of"
            f" {verdict.planes_counted} planes fell silent at once"
        )
    return (*missing, *_witnesses(plane, verdict, snapshot))


def _witnesses(plane: str, verdict: Verdict, snapshot: Snapshot) -> Iterable[str]:
    view = snapshot.plane(plane)
    decides = f"only an operator decides: `skerry failover plane/{plane}`"
    if view is not None and not view.is_peer_reachable:
        return (f"no peer can reach its gateway by design, so {decides}",)
    if not verdict.witnesses_needed:
        return (f"no other plane could testify, so {decides}",)
    found = []
    serving = _named(verdict.witnesses, PeerVerdict.SERVING)
    if serving:
        found.append(f"{serving} would have to see nothing serving there any more")
    lacking = verdict.witnesses_needed - verdict.against
    if lacking > 0:
        found.append(
            f"{lacking} more of {len(verdict.witnesses)} witnesses would have to see it fail that"
            " saw it serve until it fell silent"
        )
    found += [f"{view.plane} does not count: {view.discounted}" for view in _silenced(verdict)]
    if lacking > 0 and any(_silenced(verdict)) and verdict.state not in HEARD:
        found.append(f"or an operator decides: `skerry failover plane/{plane}`")
    return found


def _silenced(verdict: Verdict) -> tuple[PeerView, ...]:
    return tuple(view for view in verdict.witnesses if view.discounted)


def _named(witnesses: Iterable[PeerView], verdict: PeerVerdict) -> str:
    return ", ".join(view.plane for view in witnesses if view.verdict is verdict)
