"""picker.json as the agent writes it: the gateway's topology in the picker's words. PURE.

`feed` writes it beside endpoints.json; `workload_plane.picker.plane_file` reads it.
"""

from workload_plane.gateway.topology import GatewayTopology, Peer, ServedModel
from workload_plane.gateway.wire import STREAM_IDLE_FACTOR
from workload_plane.picker.wire import PLANE_FILE_FORMAT

# A held request is let go before the route's own bound would cut it: the time to say why.
_HOLD_SLACK_SECONDS = 2.0


def build_picker_file(topology: GatewayTopology) -> dict[str, object]:
    """Return the file's values; residency is applied in the topology already."""
    peers = {peer.plane: peer for peer in topology.peers}
    return {
        "format": PLANE_FILE_FORMAT,
        "plane": topology.plane,
        "deployments": [
            _deployment(model, peers) for model in topology.models if not model.outside_of
        ],
        "key_limits": {
            key.name: key.terms.concurrent_requests
            for key in topology.api_keys or ()
            if key.terms.concurrent_requests
        },
        "key_tokens": {
            key.name: {
                "per_minute": key.terms.tokens_per_minute,
                "budget": key.terms.budget_tokens,
                "period": key.terms.budget_period.value,
            }
            for key in topology.api_keys or ()
            if key.terms.counts_tokens
        },
    }


def hold_seconds(model: ServedModel) -> float:
    """Return how long the waiting room may keep a request of the deployment."""
    bound = min(STREAM_IDLE_FACTOR * model.ttft_bound_seconds, model.total_deadline_seconds)
    return max(0.0, min(model.routing.queue_seconds_max, bound - _HOLD_SLACK_SECONDS))


def _deployment(model: ServedModel, peers: dict[str, Peer]) -> dict[str, object]:
    return {
        "name": model.deployment,
        "policy": model.routing.policy.value,
        "priority": model.priority,
        "concurrent_requests": model.concurrent_requests,
        "queue_requests_max": model.routing.queue_requests_max,
        "hold_seconds": hold_seconds(model),
        "ttft_seconds": model.ttft_objective_seconds,
        "replicas": [
            {
                "name": replica.name,
                "http": _address(replica.host, replica.http_port),
                "grpc": _address(replica.host, replica.grpc_port),
                "draining": replica.draining,
            }
            for replica in model.replicas
        ],
        "peers": [
            {
                "plane": plane,
                "address": _address(peers[plane].host, peers[plane].peer_port),
                "distance_rank": peers[plane].distance_rank,
            }
            for plane in model.peers
        ],
    }


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
