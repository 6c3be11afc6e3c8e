"""The values that pass through the picker: what is known of a request, what was chosen, what came.

Named tuples, not frozen dataclasses: one of each is made per request, and a tuple takes a fifth
of the time.
"""

from typing import NamedTuple

from skerry.fleet.routing import RoutingPolicy
from workload_plane.picker.answer_lengths import Usage
from workload_plane.picker.key_tokens import Charge


class Facts(NamedTuple):
    """What the picker knows of a request.

    `blocks` are chained hashes of the prompt's blocks of `block_tokens` tokens; `tokens` is the
    whole prompt's estimated length, also of what was not seen. `forwarded`: a peer sent it, so it
    stays here. `session` is 0 without a key. `fingerprint` is of the whole body, empty where that
    was not seen. `avoided` are the hosts that the stream was lost with, as (plane, host); plane
    "" is this one. `priority` is how urgent the request calls itself, None where it says nothing.
    `key` is the name of the API key that it came with, "" without one or where a peer has it;
    `charge` what it is taken to cost, None where nobody counts the key's tokens.
    """

    deployment: str
    blocks: tuple[int, ...] = ()
    block_tokens: float = 512.0
    tokens: float = 0.0
    session: int = 0
    is_grpc: bool = False
    forwarded: bool = False
    fingerprint: bytes = b""
    avoided: tuple[tuple[str, str], ...] = ()
    priority: int | None = None
    key: str = ""
    charge: Charge | None = None


class Choice(NamedTuple):
    """Where a request is to go: addresses in the order in which Envoy should try them.

    `host` is the name of the first. `held`: all are busy or none is there, so the waiting room is
    its first address; `may_wait`: it is the last one.
    """

    ticket: int
    host: str
    addresses: tuple[str, ...]
    cached_tokens: float = 0.0
    held: bool = False
    may_wait: bool = False


class Entry(NamedTuple):
    """One line of the access log, of a request that was picked for.

    `address` is the host that was used last, "" before there was one; `status` is 0 before the
    answer began; times are milliseconds since the request came. `ended` is False for the lines
    that Envoy writes now and then about requests under way. `grpc_status` is None while there is
    none, and means nothing for a request over HTTP. `lost`: the answer says that a replica was lost
    with the request, here or at the peer that had it. `is_attempt`: the line is about one attempt
    that ended with the host's connection, and `address` and `flags` are of that one. `usage` is
    None where the gateway counts no tokens, or the answer was cut.
    """

    ticket: int
    address: str
    status: int
    flags: str
    first_byte_ms: int | None
    duration_ms: int
    bytes_received: int
    bytes_sent: int
    attempts: int
    ended: bool
    grpc_status: int | None = None
    lost: bool = False
    is_attempt: bool = False
    usage: Usage | None = None


class ReplicaTold(NamedTuple):
    """One replica as picker.json tells it."""

    name: str
    http: str
    grpc: str
    draining: bool = False


class PeerTold(NamedTuple):
    """One peer plane's gateway as picker.json tells it; nearest first by `distance_rank`."""

    plane: str
    address: str
    distance_rank: int = 0


class DeploymentTold(NamedTuple):
    """One deployment as picker.json tells it.

    `concurrent_requests` is what one engine was started to work on at once, 0 for not known;
    `hold_seconds` how long the waiting room may keep a request, 0 for never; `ttft_seconds` what
    users are promised for the first token of a short prompt, 0 where nobody told.
    """

    name: str
    policy: RoutingPolicy = RoutingPolicy.PREFIX_TOKENS
    priority: int = 1
    replicas: tuple[ReplicaTold, ...] = ()
    peers: tuple[PeerTold, ...] = ()
    concurrent_requests: int = 0
    queue_requests_max: int = 0
    hold_seconds: float = 0.0
    ttft_seconds: float = 0.0


class PeerLoad(NamedTuple):
    """What a peer's picker says of one deployment: its least busy replica, and how many it has."""

    in_flight_min: int
    ready: int
