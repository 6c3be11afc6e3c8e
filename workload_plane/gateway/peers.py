"""Which planes may help, nearest first, and what this gateway's view says of each as a witness.

Pure. The agent calls `order_peers` and `allowed_peers` when it builds the topology, and
`witness_views` when it reports to the control plane.
"""

from collections.abc import Mapping, Sequence

from skerry.fleet.desired import PeerPlane
from skerry.fleet.observation import PeerVerdict, PeerView
from skerry.fleet.pool import resides
from workload_plane.gateway.status import PeerHealth

# Nearness of a plane whose latency was not measured.
_SAME_REGION, _SAME_CLOUD, _ELSEWHERE = 0, 1, 2


def order_peers(
    own: PeerPlane,
    others: Sequence[PeerPlane],
    latency_ms: Mapping[tuple[str, str], float],
) -> tuple[str, ...]:
    """Return the other planes' names, nearest first.

    `latency_ms` is keyed by (region, region) in either order. Planes of our own region and
    planes with a measured latency come first, by latency; then the same cloud; then the rest.
    Ties go by name, so that every gateway finds the same order.
    """

    def distance(peer: PeerPlane) -> tuple[int, float, str]:
        nearness = _nearness(own, peer)
        measured = latency_ms.get(
            (own.region, peer.region), latency_ms.get((peer.region, own.region))
        )
        if nearness == _SAME_REGION:
            return (_SAME_REGION, measured or 0.0, peer.plane)
        if measured is not None:
            return (_SAME_REGION, measured, peer.plane)
        return (nearness, 0.0, peer.plane)

    return tuple(peer.plane for peer in sorted(others, key=distance) if peer.plane != own.plane)


def allowed_peers(
    ordered: Sequence[str],
    planes: Mapping[str, PeerPlane],
    residency_zones: Sequence[str],
) -> tuple[str, ...]:
    """Return those of the ordered peers that may see the deployment's requests; fails closed.

    The rule is the scheduler's (`skerry.fleet.pool.resides`); a peer that is not known may not.
    """
    return tuple(
        plane
        for plane in ordered
        if not residency_zones
        or ((peer := planes.get(plane)) and resides(peer.residency_zones, tuple(residency_zones)))
    )


def witness_views(peers: Mapping[str, PeerHealth]) -> tuple[PeerView, ...]:
    """Return what this gateway says of each peer, by name; what it has not seen is unknown."""
    return tuple(
        PeerView(plane=plane, verdict=_verdict(health)) for plane, health in sorted(peers.items())
    )


def _verdict(health: PeerHealth) -> PeerVerdict:
    # A healthy deployment there is evidence of life whatever the bare probe says.
    if health.serving:
        return PeerVerdict.SERVING
    if health.reachable is None:
        return PeerVerdict.UNKNOWN
    return PeerVerdict.REACHABLE if health.reachable else PeerVerdict.UNREACHABLE


def _nearness(own: PeerPlane, peer: PeerPlane) -> int:
    if (own.cloud, own.region) == (peer.cloud, peer.region):
        return _SAME_REGION
    return _SAME_CLOUD if own.cloud == peer.cloud else _ELSEWHERE
