"""Which planes may help, nearest first, and what this gateway's view says of each as a witness.

Pure. The agent calls `order_peers` and `allowed_peers` when it builds the topology, and
`witness_views` when it reports to the control plane.
"""

from collections.abc import Mapping, Sequence

from skerry.fleet.desired import PeerPlane
from skerry.fleet.observation import PeerVerdict, PeerView
from skerry.fleet.pool import resides
from workload_plane.gateway.status import PeerHealth

# Round trips as they usually are, for planes whose distance was not measured.
_SAME_REGION_SECONDS, _SAME_CLOUD_SECONDS, _ELSEWHERE_SECONDS = 0.002, 0.060, 0.100


def order_peers(
    own: PeerPlane, others: Sequence[PeerPlane], measured: Mapping[str, float]
) -> tuple[str, ...]:
    """Return the other planes' names, nearest first.

    `measured` are distances in seconds by plane. What was not measured (yet) is taken to be as far
    as planes of the same region, of the same cloud or of neither usually are. Ties go by name.
    """

    def distance(peer: PeerPlane) -> tuple[float, str]:
        return (measured.get(peer.plane, _usual_seconds(own, peer)), peer.plane)

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


def _usual_seconds(own: PeerPlane, peer: PeerPlane) -> float:
    if (own.cloud, own.region) == (peer.cloud, peer.region):
        return _SAME_REGION_SECONDS
    return _SAME_CLOUD_SECONDS if own.cloud == peer.cloud else _ELSEWHERE_SECONDS
