"""What a plane's reports have said before the newest one, as far as verdicts go by it. Pure.

`registry` folds each new report in. Moments are of the control plane's own monotonic clock: those
that a plane tells by a clock of its own are in its report, and older releases tell none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from control_plane.reconcile.snapshot import Told
from skerry.fleet.observation import PeerVerdict, PlaneReport, ReplicaState

# What a plane says that was silent for longer (the longest heartbeat timeout there is), and what it
# says first, may have been so for any time.
SILENT_SECONDS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfPeer:
    """What a plane said of a peer that it does not call serving, at which moments."""

    served: float | None = None  # heard last while it still did
    denied: float | None = None  # and first when it did no more
    unreachable: float | None = None  # first so called, without a break since; -inf: any time


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Since when no replica is READY, and what was said of the peers that are not serving."""

    unready_at: float | None = None
    peers: Mapping[str, _OfPeer] = field(default_factory=dict)

    def then(
        self, before: PlaneReport | None, report: PlaneReport, heard_before: float, now: float
    ) -> "Said":
        """Return it after a report that differs from the one before, None for the first.

        `heard_before` is when the plane said anything last before it: until then the report before
        was its word, and what came to pass in a silence may have done so at its beginning.
        """
        is_ready = any(one.state is ReplicaState.READY for one in report.replicas)
        unready_at = now if self.unready_at is None else self.unready_at
        served = _serving(before) if before is not None else frozenset()
        is_now = before is not None and now - heard_before <= SILENT_SECONDS
        first = now if is_now else -math.inf
        peers = {}
        # Peers that are not named any more are forgotten, as agents forget them.
        for view in report.peers:
            if view.verdict is PeerVerdict.SERVING:
                continue
            of_peer = self.peers.get(view.plane, _OfPeer())
            if view.plane in served:
                of_peer = _OfPeer(served=heard_before, denied=now)
            is_unreachable = view.verdict is PeerVerdict.UNREACHABLE
            since = first if of_peer.unreachable is None else of_peer.unreachable
            peers[view.plane] = replace(of_peer, unreachable=since if is_unreachable else None)
        return Said(unready_at=None if is_ready else unready_at, peers=peers)

    def after_silence(self, now: float) -> "Said":
        """Return it once the plane is heard again that was silent for longer than it may be.

        Though it says the same, all may have been otherwise meanwhile.
        """
        return Said(
            unready_at=None if self.unready_at is None else now,
            peers={
                peer: replace(said, unreachable=None if said.unreachable is None else -math.inf)
                for peer, said in self.peers.items()
            },
        )

    def unready_seconds(self, now: float) -> float | None:
        """Return for how long its reports have named no READY replica; None while one does."""
        return _age(self.unready_at, now)

    def told(self, now: float) -> Mapping[str, Told]:
        """Return what it said of the peers that it does not call serving, by peer."""
        return {
            peer: Told(
                served_seconds=_age(said.served, now),
                denied_seconds=_age(said.denied, now),
                unreachable_seconds=_age(said.unreachable, now),
            )
            for peer, said in self.peers.items()
        }


def _serving(report: PlaneReport) -> frozenset[str]:
    return frozenset(v.plane for v in report.peers if v.verdict is PeerVerdict.SERVING)


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else now - moment
