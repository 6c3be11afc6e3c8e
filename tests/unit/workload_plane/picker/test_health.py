"""What the gateway's own page says of its hosts, and what it does not say yet."""

import json
from typing import Any

import pytest

from workload_plane.picker.deployments import Seen
from workload_plane.picker.health import parse_clusters

WELL: dict[str, Any] = {"eds_health_status": "HEALTHY"}


def page(**clusters: dict[str, dict[str, Any]]) -> bytes:
    """Return an answer of Envoy's of the clusters of deployment `d`."""
    names = {"http": "http/d", "grpc": "grpc/d", "local": "local-http/d"}
    told = [
        {
            "name": names[kind],
            "host_statuses": [
                {"hostname": name, "health_status": health} for name, health in hosts.items()
            ],
        }
        for kind, hosts in clusters.items()
    ]
    return json.dumps({"cluster_statuses": told}).encode()


def test_a_host_is_well_once_all_who_may_send_there_know_it() -> None:
    """Of two files of endpoints the second is read milliseconds after the first."""
    early = parse_clusters(page(http={}, grpc={"r": WELL}, local={"r": WELL}))
    assert early == {"d": {"r": Seen(None, 0)}}
    assert parse_clusters(page(http={"r": WELL}, grpc={})) == {"d": {"r": Seen(None, 0)}}
    assert parse_clusters(page(grpc={"r": WELL})) == {"d": {"r": Seen(None, 0)}}
    both = parse_clusters(page(http={"r": WELL}, grpc={"r": WELL}, local={}))
    assert both == {"d": {"r": Seen(True, 0)}}


def test_the_worst_of_all_views_holds() -> None:
    pending = {**WELL, "pending_active_hc": True}
    failed = {**WELL, "failed_active_health_check": True}
    for first, second, health in (
        (WELL, pending, None),
        (pending, WELL, None),
        (failed, pending, False),
        (WELL, failed, False),
    ):
        seen = parse_clusters(page(http={"r": first}, grpc={"r": second}))
        assert seen == {"d": {"r": Seen(health, 0)}}


def test_the_page_tells_who_is_put_out() -> None:
    out = {"failed_outlier_check": True}
    seen = parse_clusters(page(http={"r": out}, grpc={"r": WELL}))
    assert seen == {"d": {"r": Seen(True, 0, ejected=True)}}


BUSY = (
    b'{"cluster_statuses": [{"name": "http/chat", "host_statuses": [{"hostname": "r",'
    b' "stats": [{"name": "rq_active", "value": BUSY}]}]}]}'
)


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b'{"cluster_statuses": [{}]}',
        b'{"cluster_statuses": 1}',
        b'{"cluster_statuses": [{"name": "http/chat", "host_statuses": [[]]}]}',
        BUSY.replace(b"BUSY", b"1e999"),
        b"[" * 100_000,
    ],
)
def test_whatever_else_the_admin_page_says_is_one_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_clusters(data)
