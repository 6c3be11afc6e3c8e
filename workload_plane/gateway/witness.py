"""What this gateway saw of its peers so far: a witness speaks only of what it has seen alive.

Pure. The agent folds every look at its gateway into the memory and reports `views_of` it. The
memory is the agent's own: after its restart it has seen nobody serve, and testifies against none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.observation import PeerVerdict, PeerView
from workload_plane.gateway.peers import witness_views
from workload_plane.gateway.status import GatewayStatus

# Envoy calls a host unhealthy until its first check ended: after a start it would testify that
# everybody is gone. A check takes a second at most, a peer is checked twice a second.
WARM_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """When the gateway was looked at, by the wall clock and by the monotonic one."""

    at: datetime
    at_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """What was seen of one peer: its view now, whether its gateway ever answered, when it served.

    `served` is the last look that saw READY replicas there, not the first one that saw none: an
    agent that hangs meanwhile would date the end of it by its own return.
    """

    view: PeerView
    answered: bool = False
    served: Look | None = None


Memory = Mapping[str, Sighted]  # by peer


def remember(
    memory: Memory, status: GatewayStatus | None, peers: Iterable[str], look: Look
) -> Memory:
    """Return the memory after one look at the gateway; None is a gateway that does not answer.

    Peers that are not named any more are forgotten.
    """
    seen: dict[str, PeerVerdict] = {}
    if status is not None:
        seen = {view.plane: view.verdict for view in witness_views(status.peers)}
        if status.uptime_seconds is not None and status.uptime_seconds < WARM_SECONDS:
            seen = {p: v for p, v in seen.items() if v is PeerVerdict.SERVING}
    return {
        peer: _after(memory.get(peer), peer, seen.get(peer, PeerVerdict.UNKNOWN), look)
        for peer in peers
    }


def views_of(memory: Memory) -> tuple[PeerView, ...]:
    """Return what to report, by peer."""
    return tuple(sighted.view for _, sighted in sorted(memory.items()))


def _after(before: Sighted | None, peer: str, seen: PeerVerdict, look: Look) -> Sighted:
    if before is None:
        before = Sighted(view=PeerView(plane=peer, verdict=PeerVerdict.UNKNOWN, since=look.at))
    answered = before.answered or seen in (PeerVerdict.SERVING, PeerVerdict.REACHABLE)
    if seen is PeerVerdict.UNREACHABLE and not answered:
        seen = PeerVerdict.UNKNOWN  # it may lie where we never could reach it
    serves = seen is PeerVerdict.SERVING
    served = look if serves else before.served
    if seen is before.view.verdict:
        return Sighted(view=before.view, answered=answered, served=served)
    until = None if serves else served
    view = PeerView(
        plane=peer,
        verdict=seen,
        since=look.at,
        served_until=until.at if until else None,
        served_until_seconds=until.at_seconds if until else None,
    )
    return Sighted(view=view, answered=answered, served=served)
