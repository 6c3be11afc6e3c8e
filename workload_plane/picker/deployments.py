"""One deployment as the picker sees it: its replicas, its peers, its prefix tree. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from workload_plane.gateway.outliers import EJECTED_PERCENT_MAX
from workload_plane.picker.answer_lengths import AnswerLengths
from workload_plane.picker.counts import (
    FIRST_BYTE_SECONDS,
    Answers,
    Arrivals,
    DeploymentCounters,
)
from workload_plane.picker.facts import DeploymentTold, Facts, PeerLoad, ReplicaTold
from workload_plane.picker.hosts import SUSPECT_SECONDS, Peer, Replica, saturation
from workload_plane.picker.pending import Pace
from workload_plane.picker.prefix_tree import PrefixTree, length_by_replica

PRIORITY_MAX = 9
_NEVER = float("inf")


class Seen(NamedTuple):
    """What the gateway says of a host: `healthy` None until its first health check ended.

    `ejected`: it left the host out for its errors, although its health checks pass.
    """

    healthy: bool | None
    active: int
    ejected: bool = False


class Deployment:
    """The hosts of one deployment and what was learned of them."""

    __slots__ = (
        "_changes_at",
        "_is_seen",
        "_usable",
        "_usable_peers",
        "answer_lengths",
        "answers",
        "asked_at",
        "cached_tokens",
        "first_bytes",
        "forwarded",
        "pace",
        "peers",
        "picked",
        "prompt_tokens",
        "replicas",
        "told",
        "tree",
        "users",
    )

    def __init__(self, told: DeploymentTold) -> None:
        """Begin with what picker.json says."""
        self.told = told
        self.pace = Pace()
        self.tree = PrefixTree()
        self.answer_lengths = AnswerLengths()
        self.replicas: dict[str, Replica] = {}
        self.peers: dict[str, Peer] = {}
        self.asked_at = -_NEVER
        self.picked = 0
        self.prompt_tokens = 0.0
        self.cached_tokens = 0.0
        self.users, self.forwarded, self.answers = Arrivals(), Arrivals(), Answers()
        # How many first bytes came within each bound and after the one before; the last: past all.
        self.first_bytes = [0] * (len(FIRST_BYTE_SECONDS) + 1)
        self._is_seen = False
        self._usable: list[Replica] | None = None
        self._usable_peers: tuple[Peer, ...] = ()
        self._changes_at = _NEVER
        self.update(told)

    @property
    def may_hold(self) -> bool:
        """Say whether the waiting room takes this deployment's requests."""
        return self.told.hold_seconds > 0 and self.told.queue_requests_max > 0

    def urgency(self, asked: int | None) -> int:
        """Return the deployment's priority, or what a request says if that is less urgent.

        Nobody vouches for the header: with a more urgent one any client would go before all others.
        """
        told = self.told.priority
        return told if asked is None else max(told, min(PRIORITY_MAX, asked))

    def update(self, told: DeploymentTold) -> None:
        """Take in what picker.json says now."""
        self.told = told
        named = {one.name: one for one in told.replicas}
        for name, known in list(self.replicas.items()):
            new = named.get(name)
            if new is None or (new.http, new.grpc) != (known.http, known.grpc):
                self.tree.forget(known.index)  # gone, or started anew with an empty cache
                del self.replicas[name]
        for name, one in named.items():
            if name in self.replicas:
                self.replicas[name].draining = one.draining
            else:
                self.replicas[name] = self._new_replica(one)
        peers = {one.plane: one for one in told.peers}
        for plane, peer in list(self.peers.items()):
            if plane not in peers or peers[plane].address != peer.address:
                del self.peers[plane]
        for plane, told_peer in peers.items():
            if plane in self.peers:
                self.peers[plane].rank = told_peer.distance_rank
            else:
                self.peers[plane] = Peer(told_peer)
        self._changed()

    def usable(self, now: float) -> Sequence[Replica]:
        """Return the replicas that may get new requests: READY, healthy, not suspect."""
        if self._usable is None or now >= self._changes_at:
            self._sort(now)
        assert self._usable is not None
        return self._usable

    def has_replica(self, now: float) -> bool:
        """Say whether the gateway may send requests to a replica here, suspect ones included."""
        return bool(self.usable(now)) or any(
            host.healthy is True and not host.draining for host in self.replicas.values()
        )

    def usable_peers(self) -> tuple[Peer, ...]:
        """Return the peers that may help and are not known to be unhealthy."""
        return self._usable_peers

    def cached(self, facts: Facts, hosts: Sequence[Replica]) -> dict[int, float]:
        """Return how many of the prompt's tokens each host has in its cache, by index."""
        matches = self.tree.matches(facts.blocks) if facts.blocks else ()
        if not matches:
            return {}
        lengths = length_by_replica(matches, [host.index for host in hosts])
        return {
            index: min(facts.tokens, blocks * facts.block_tokens)
            for index, blocks in lengths.items()
        }

    def suspect(self, host: Replica, now: float) -> None:
        """Send nothing to a host that just failed until health checks had their say."""
        host.suspect_until = now + SUSPECT_SECONDS
        self._changed()

    def failed(self, host: Replica, now: float, *, at_gateway: bool) -> None:
        """Hold an error against a host; too many in a row put it out, if another may serve."""
        if not host.errors.failed(at_gateway=at_gateway) or host.is_out(now):
            return
        # Envoy's own count: the waiting room is a host of the cluster too.
        hosts = len(self.replicas) + len(self.peers) + self.may_hold
        out = 1 + sum(one.is_out(now) for one in self.replicas.values())
        others = any(one is not host for one in self.usable(now)) or self._has_good_peer()
        if others and 100 * out <= EJECTED_PERCENT_MAX * hosts:
            host.errors.eject(now)
            self._changed()

    def host_at(self, address: str, is_grpc: bool) -> Replica | Peer | None:
        """Return the host of that address."""
        for host in self.replicas.values():
            if host.address(is_grpc) == address:
                return host
        return next((peer for peer in self.peers.values() if peer.address == address), None)

    def look(self, seen: Mapping[str, Seen] | None, now: float) -> None:
        """Take in what the gateway says of the hosts, by name; None is unknown."""
        self._is_seen = seen is not None
        for name, host in self.replicas.items():
            host.recover(now)
            told = seen.get(name) if seen is not None else None
            if told is None:
                host.healthy, host.put_out = None, False
                continue
            if told.healthy is False and host.healthy is not False:
                self.tree.forget(host.index)  # it may come back as a new engine
                host.forget_limit()
            host.healthy, host.put_out = told.healthy, told.ejected
            host.untracked = max(0, told.active - host.open)
        for name, peer in self.peers.items():
            told = seen.get(name) if seen is not None else None
            peer.healthy = told.healthy if told is not None else None
            if told is not None and told.ejected:
                peer.healthy = False
        self._changed()

    def peer_load(self, plane: str, load: PeerLoad | None) -> None:
        """Take in a peer's own word on its load; None is unknown."""
        peer = self.peers.get(plane)
        if peer is not None:
            peer.told(*((load.in_flight_min, load.ready) if load is not None else (-1, 0)))

    def load(self, now: float) -> PeerLoad:
        """Return what peers are told of this deployment here."""
        hosts = self.usable(now)
        least = min((host.in_flight for host in hosts), default=0)
        return PeerLoad(in_flight_min=least, ready=len(hosts))

    def room(self, now: float) -> int:
        """Return how many requests may leave the waiting room for replicas here.

        The gateway chooses among those that it has seen to be well and did not put out; sent on
        for any other, a request comes back, and nobody waits twice.
        """
        return sum(
            max(0, host.limit - host.in_flight)
            for host in self.usable(now)
            if host.healthy is True and not host.put_out
        )

    def peer_room(self) -> int:
        """Return how many requests may leave the waiting room for peers that were seen to be well.

        What is not known of one is taken as room for one engine: new requests go there unasked.
        """
        limit, room = saturation(self.told.concurrent_requests), 0
        for peer in self._usable_peers:
            if peer.healthy is True:
                known = peer.room(limit)
                room += limit if known is None else known
        return room

    def is_full_there(self, peer: Peer) -> bool:
        """Say whether all of a peer's replicas are known to have what they take."""
        return peer.room(saturation(self.told.concurrent_requests)) == 0

    def note_picked(self, tokens: float, cached: float) -> None:
        """Count what was steered, for the metrics."""
        self.picked += 1
        self.prompt_tokens += tokens
        self.cached_tokens += cached

    def arrivals(self, *, forwarded: bool) -> Arrivals:
        """Return what counts requests of users, or those that peers sent on."""
        return self.forwarded if forwarded else self.users

    def counters(self, waiting: int, now: float) -> DeploymentCounters:
        """Return what was counted, with how much waits in the room."""
        hosts = self.replicas.values()
        return DeploymentCounters(
            users=replace(self.users),
            forwarded=replace(self.forwarded),
            answers=replace(self.answers),
            here=sum(host.in_flight for host in hosts),
            waiting=waiting,
            pending_tokens=sum(host.pending.tokens(now) for host in hosts),
            first_bytes=tuple(self.first_bytes),
        )

    def _new_replica(self, told: ReplicaTold) -> Replica:
        taken = {host.index for host in self.replicas.values()}
        index = next(i for i in range(len(taken) + 1) if i not in taken)
        return Replica(told, index, self.pace, self.told.concurrent_requests)

    def _changed(self) -> None:
        self._usable = None
        self._usable_peers = tuple(p for p in self.peers.values() if p.healthy is not False)

    def _sort(self, now: float) -> None:
        fit = [host for host in self.replicas.values() if self._is_fit(host)]
        # One that answers with errors is still better than nobody.
        sound = [host for host in fit if not host.is_out(now)]
        if not sound and not self._has_good_peer():
            sound = fit
        self._usable = [host for host in sound if host.suspect_until <= now]
        later = [at for host in fit for at in (host.suspect_until, host.errors.until) if at > now]
        self._changes_at = min(later, default=_NEVER)

    def _has_good_peer(self) -> bool:
        return any(peer.healthy is True for peer in self._usable_peers)

    def _is_fit(self, host: Replica) -> bool:
        if host.draining or host.healthy is False:
            return False
        # A host that the gateway has not judged yet is used only where nobody judges.
        return host.healthy is True or not self._is_seen
