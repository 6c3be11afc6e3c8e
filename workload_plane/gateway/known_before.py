"""What the gateway's files tell an agent that was started anew: whom it routes to, and where.

Pure. `feed` reads the files once; without a name server the addresses in them go on being used,
and what an accepted desired state names no more can leave although nobody remembers it.
"""

from collections.abc import Iterable, Mapping

from skerry.fleet.desired import PeerPlane
from workload_plane.gateway.clusters import KINDS, PEER, split_cluster_name
from workload_plane.gateway.listeners import PUBLIC_LISTENER
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.wire import Json


def deployment_names(published: Snapshot) -> frozenset[str]:
    """Return the deployments that the gateway has clusters for."""
    split = (split_cluster_name(cluster["name"]) for cluster in published.clusters)
    return frozenset(found[1] for found in split if found and found[0] in KINDS)


def peer_addresses(published: Snapshot) -> dict[str, str]:
    """Return the address of every peer that the gateway has a cluster for, by plane."""
    return {
        found[1]: _address(
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        )
        for cluster in published.clusters
        if (found := split_cluster_name(cluster["name"])) and found[0] == PEER
    }


def own_address(published: Snapshot) -> str | None:
    """Return the address that the gateway listens at for clients, None where it does not."""
    found = (one for one in published.listeners if one["name"] == PUBLIC_LISTENER)
    return next((_address(listener) for listener in found), None)


def addresses_by_name(peers: Iterable[PeerPlane], addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses that the peers' host names had, from those of their planes."""
    return {
        peer.peer_address.rpartition(":")[0]: addresses[peer.plane]
        for peer in peers
        if peer.plane in addresses
    }


def _address(owner: Json) -> str:
    return str(owner["address"]["socket_address"]["address"])
