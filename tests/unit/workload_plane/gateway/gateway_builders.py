"""Topologies for the gateway's unit tests, and a look at what is made of them."""

from typing import Any

from workload_plane.gateway.topology import (
    Address,
    GatewayTopology,
    ListenAddresses,
    LocalReplica,
    Peer,
    PeerTls,
    ServedModel,
)

DESCRIPTOR_SET = b"descriptor"
TLS = PeerTls(certificate_path="/tls/a.pem", key_path="/tls/a.key", authority_path="/tls/ca.pem")
PEERS = (
    Peer(plane="b", host="10.0.0.2", peer_port=9443, distance_rank=1),
    Peer(plane="c", host="10.0.0.3", peer_port=9443, distance_rank=2),
)


def a_replica(name: str, *, port: int = 9000, draining: bool = False) -> LocalReplica:
    """Return a replica on loopback with three ports from `port` on."""
    return LocalReplica(
        name=name,
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        health_port=port + 2,
        draining=draining,
    )


def a_model(
    deployment: str,
    *replicas: LocalReplica,
    served_name: str | None = None,
    peers: tuple[str, ...] = (),
) -> ServedModel:
    """Return a served model; its served name is the deployment's unless given."""
    return ServedModel(
        served_name=served_name or deployment,
        deployment=deployment,
        ttft_bound_seconds=2,
        total_deadline_seconds=120,
        replicas=replicas,
        peers=peers,
    )


def a_topology(*models: ServedModel, tls: PeerTls | None = TLS) -> GatewayTopology:
    """Return plane `a` with peers `b` and `c` when there is TLS."""
    return GatewayTopology(
        plane="a",
        project="default",
        listen=ListenAddresses(
            public_host="127.0.0.1",
            public_port=8080,
            peer_host="127.0.0.1",
            peer_port=9443,
            admin_port=9901,
        ),
        models=models,
        peers=PEERS if tls else (),
        front=Address(host="127.0.0.1", port=7000),
        tls=tls,
    )


def flat_routes(table: Any) -> list[Any]:
    """Return every route of a table once, in the order in which its tree comes to them."""
    found: list[Any] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for route in value.get("routes", ()):
                if route not in found:
                    found.append(route)
            for name, inner in value.items():
                if name != "routes":
                    walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(table["virtual_hosts"][0])
    return found
