"""Which of a deployment's hosts is best for a request: one rule for each policy. PURE.

`picker` calls `rank` with hosts that are fit for use; the first of the answer is asked, the
second is for a retry where no peer may help. Ties are broken by requests in flight, then by who
was chosen longest ago.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from skerry.fleet.routing import RoutingPolicy
from workload_plane.picker.facts import Facts
from workload_plane.picker.hosts import Peer, Replica

# A running answer slows the prompts beside it down: by about a step of decoding, in tokens.
_IN_FLIGHT_TOKENS = 32.0
# What is computed a second time delays others too, so a cached token is worth more than a pending
# one: on the Mooncake trace 1.5 instead of 1 finds 0.5 to 1 % more of all tokens cached at the same
# time to the first token; from 3 on that time grows.
_CACHED_WEIGHT = 1.5
# The session policy keeps a session where it is up to this share above the mean.
SESSION_BOUND = 1.25
# Spillover: waiting until 12 are in flight cost the objective (0.982 of requests instead of 0.990
# in simulation), and without a margin planes would send one another what they both have.
SPILL_IN_FLIGHT_MIN = 6
SPILL_MARGIN = 2
# What is cached here would be read anew there: so many tokens of it keep a request here as one in
# flight fewer would. A quarter of a second's reading at the pace that is taken before any is known.
SPILL_TOKENS = 1024.0

_MASK = (1 << 64) - 1
_Key = tuple[bool, float, int, int, int]


def rank(
    policy: RoutingPolicy,
    hosts: Sequence[Replica],
    cached: Mapping[int, float],
    facts: Facts,
    now: float,
) -> list[Replica]:
    """Return the hosts, best first; `cached` are tokens of the prompt by a replica's index.

    What has reached its engine's limit comes last, whatever the policy.
    """
    if len(hosts) == 1:
        return list(hosts)
    if policy is RoutingPolicy.SESSION and facts.session:
        return _by_session(hosts, facts.session)
    keyed = _KEYS[policy](hosts, cached, facts, now)
    if facts.session and policy is RoutingPolicy.PREFIX_TOKENS:
        # Where nothing else decides, a session stays together also with several gateways.
        return [
            host
            for _, host in sorted(
                ((key[:3], -_mix(facts.session, host.key), host.index), host)
                for key, host in zip(keyed, hosts, strict=True)
            )
        ]
    order = sorted(range(len(hosts)), key=keyed.__getitem__)
    return [hosts[i] for i in order]


def spill(
    policy: RoutingPolicy, hosts: Sequence[Replica], cached: float, peers: Iterable[Peer]
) -> Peer | None:
    """Return the peer that is to help with a request, if any; `cached` are its tokens here.

    While a replica here is idle none is asked, and for a session only once all here are full. Each
    plane that is nearer counts as a request more. Of a peer whose load is not known nothing is
    assumed.
    """
    here: float = min(host.in_flight for host in hosts)
    if not all(host.is_full for host in hosts):
        if here < SPILL_IN_FLIGHT_MIN or policy is RoutingPolicy.SESSION:
            return None
        here -= cached / SPILL_TOKENS
    known = [(busy, peer) for peer in peers if (busy := peer.busy()) is not None]
    if not known:
        return None
    nearest = min(peer.rank for _, peer in known)
    busy, _, _, peer = min(
        (busy + peer.rank - nearest, peer.rank, peer.name, peer) for busy, peer in known
    )
    return peer if busy + SPILL_MARGIN <= here else None


def set_apart(
    hosts: Sequence[Replica], peers: tuple[Peer, ...], avoided: Sequence[tuple[str, str]]
) -> tuple[Sequence[Replica], tuple[Peer, ...]]:
    """Return the hosts and peers that a stream was not lost with; all, where there is no other.

    A peer is left out as well when it lost as many of its replicas over it as it has.
    """
    here = {name for plane, name in avoided if not plane}
    there = Counter(plane for plane, _ in avoided)
    others = [host for host in hosts if host.name not in here]
    helpers = tuple(
        peer
        for peer in peers
        if peer.name not in here and (not there[peer.name] or peer.ready > there[peer.name])
    )
    if not others:  # then only a peer that is known to be well is better than one of these
        helpers = tuple(peer for peer in helpers if peer.healthy is True)
    return (others, helpers) if others or helpers else (hosts, peers)


def rendezvous(session: int, hosts: Iterable[Replica]) -> list[Replica]:
    """Return the hosts in the session's own order, the same at every gateway of the plane."""
    return sorted(hosts, key=lambda host: _mix(session, host.key), reverse=True)


def _by_session(hosts: Sequence[Replica], session: int) -> list[Replica]:
    total = sum(host.in_flight for host in hosts) + 1
    bound = math.ceil(SESSION_BOUND * total / len(hosts))
    order = rendezvous(session, hosts)
    fit = [host for host in order if host.in_flight < bound and not host.is_full]
    return fit + [host for host in order if host not in fit]


def _prefix_tokens(
    hosts: Sequence[Replica], cached: Mapping[int, float], facts: Facts, now: float
) -> list[_Key]:
    keys = []
    for host in hosts:  # the picker's innermost loop: a fifth of its time before it was flat
        busy, pending = host.open + host.untracked, host.pending
        cost = _IN_FLIGHT_TOKENS * busy
        if pending.left:
            cost += pending.tokens(now)
        if cached:
            cost -= _CACHED_WEIGHT * cached.get(host.index, 0.0)
        keys.append((busy >= host.limit, cost, busy, host.picked, host.index))
    return keys


def _least_tokens(
    hosts: Sequence[Replica], cached: Mapping[int, float], facts: Facts, now: float
) -> list[_Key]:
    return _prefix_tokens(hosts, {}, facts, now)


def _least_request(
    hosts: Sequence[Replica], cached: Mapping[int, float], facts: Facts, now: float
) -> list[_Key]:
    return [(host.is_full, 0.0, host.in_flight, host.picked, host.index) for host in hosts]


_Keys = Callable[[Sequence[Replica], Mapping[int, float], Facts, float], list[_Key]]
_KEYS: dict[RoutingPolicy, _Keys] = {
    RoutingPolicy.PREFIX_TOKENS: _prefix_tokens,
    RoutingPolicy.LEAST_TOKENS: _least_tokens,
    RoutingPolicy.LEAST_REQUEST: _least_request,
    RoutingPolicy.SESSION: _least_request,  # a request without a session
}


def _mix(session: int, host: int) -> int:
    """Return 64 bits that depend on both in an even way (the finaliser of splitmix64)."""
    x = (session ^ host) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
