"""What a topology refuses."""

from dataclasses import replace

import pytest

from tests.unit.workload_plane.gateway.gateway_builders import PEERS, a_model, a_replica, a_topology
from workload_plane.gateway.topology import Peer


def test_two_deployments_cannot_share_a_served_name() -> None:
    with pytest.raises(ValueError, match="served name given twice: chat"):
        a_topology(a_model("one", served_name="chat"), a_model("two", served_name="chat"))


def test_a_deployment_cannot_name_a_peer_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="unknown peers"):
        a_topology(a_model("chat", peers=("nowhere",)))


def test_peers_without_tls_are_refused() -> None:
    with pytest.raises(ValueError, match="mTLS only"):
        replace(a_topology(tls=None), peers=PEERS)


def test_a_peer_is_an_address_not_a_name() -> None:
    with pytest.raises(ValueError, match="resolve names before routing"):
        Peer(plane="b", host="gateway.example", peer_port=1, distance_rank=1)


def test_a_deployment_cannot_escape_its_folder() -> None:
    with pytest.raises(ValueError, match="deployment"):
        a_model("../chat")


def test_a_replica_is_listed_once() -> None:
    with pytest.raises(ValueError, match="given twice: r1"):
        a_topology(a_model("chat", a_replica("r1"), a_replica("r1")))
