"""Distance, residency and witnesses."""

from skerry.fleet.desired import PeerPlane
from skerry.fleet.observation import PeerVerdict, PeerView
from workload_plane.gateway.peers import allowed_peers, order_peers, witness_views
from workload_plane.gateway.status import PeerHealth


def a_plane(name: str, cloud: str, region: str, *zones: str) -> PeerPlane:
    return PeerPlane(
        plane=name, cloud=cloud, region=region, peer_address="10.0.0.1:9", residency_zones=zones
    )


OWN = a_plane("own", "aws", "us-east-1")
BESIDE = a_plane("beside", "aws", "us-east-1")
WEST = a_plane("west", "aws", "us-west-2")
EUROPE = a_plane("europe", "gcp", "europe-west4", "eu")
ONPREM = a_plane("onprem", "own", "fra", "eu", "de")
ALL = (ONPREM, EUROPE, WEST, OWN, BESIDE)


def test_without_measurements_the_same_region_then_the_same_cloud_is_nearest() -> None:
    assert order_peers(OWN, ALL, {}) == ("beside", "west", "europe", "onprem")


def test_a_measured_distance_decides_and_the_rest_is_as_far_as_such_planes_usually_are() -> None:
    measured = {"onprem": 0.004, "beside": 0.090}
    assert order_peers(OWN, ALL, measured) == ("onprem", "west", "beside", "europe")


def test_no_residency_allows_every_peer() -> None:
    assert allowed_peers(("west", "unheard-of"), {"west": WEST}, ()) == ("west", "unheard-of")


def test_residency_fails_closed() -> None:
    planes = {plane.plane: plane for plane in ALL}
    ordered = ("west", "unheard-of", "onprem", "europe")
    assert allowed_peers(ordered, planes, ("eu",)) == ("onprem", "europe")
    assert allowed_peers(ordered, planes, ("de",)) == ("onprem",)
    assert allowed_peers(ordered, planes, ("jp",)) == ()


def test_a_witness_says_no_more_than_it_saw() -> None:
    views = witness_views(
        {
            "unseen": PeerHealth(),
            "gone": PeerHealth(reachable=False, serving=False),
            "idle": PeerHealth(reachable=True, serving=False),
            "alive": PeerHealth(reachable=True),
            "good": PeerHealth(reachable=True, serving=True),
            "odd": PeerHealth(reachable=False, serving=True),
        }
    )
    assert views == (
        PeerView(plane="alive", verdict=PeerVerdict.REACHABLE),
        PeerView(plane="gone", verdict=PeerVerdict.UNREACHABLE),
        PeerView(plane="good", verdict=PeerVerdict.SERVING),
        PeerView(plane="idle", verdict=PeerVerdict.REACHABLE),
        PeerView(plane="odd", verdict=PeerVerdict.SERVING),
        PeerView(plane="unseen", verdict=PeerVerdict.UNKNOWN),
    )
