"""The picker's decisions: a request in, a host out, and what became of it in again.

PURE: no I/O, no clock; `authz` asks, `accounting` tells, `plane_file` and `health` say what there
is. Everything it holds has a bound: hosts and deployments by the plane, tickets by TICKETS_MAX.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from workload_plane.picker.deployments import Deployment, Seen
from workload_plane.picker.facts import Choice, DeploymentTold, Entry, Facts, PeerLoad
from workload_plane.picker.hosts import Peer, Replica
from workload_plane.picker.key_counts import KeyCounts
from workload_plane.picker.key_tokens import KeyTokens
from workload_plane.picker.quarantine import Quarantine
from workload_plane.picker.score import rank, set_apart, spill
from workload_plane.picker.tickets import (
    Ticket,
    count_answer,
    is_error,
    is_error_at_gateway,
    is_host_fault,
    is_loss,
    is_refusal,
    is_streamed,
    used_tokens,
)
from workload_plane.picker.totals import Totals
from workload_plane.picker.waiting import WaitingQueue
from workload_plane.picker.wire import ACCOUNT_SECONDS, RETRIES, RETRIES_WITH_ROOM

# Envoy tells of a request under way every ACCOUNT_SECONDS; one of which three tellings are
# missing was lost on the way, or Envoy was restarted.
TICKET_SECONDS_MAX = 3.5 * ACCOUNT_SECONDS
# Twenty thousand connections are the gateway's own bound; HTTP/2 may carry more on each.
TICKETS_MAX = 100_000


class Picker:
    """Chooses hosts for requests and learns from what came of it."""

    def __init__(self, first_ticket: int = 1) -> None:
        """Begin with no deployments; numbers from `first_ticket` on tell runs apart."""
        self._deployments: dict[str, Deployment] = {}
        self._tickets: OrderedDict[int, Ticket] = OrderedDict()
        self._next = self.run = first_ticket
        self.totals = Totals()
        # Of the waiting room, which fills and empties them.
        self.waiting: dict[str, WaitingQueue] = {}
        self.quarantine = Quarantine()
        self.keys = KeyCounts()
        self.tokens = KeyTokens()

    def update(self, told: Iterable[DeploymentTold], now: float) -> None:
        """Take in what the plane serves; what is not named any more is gone."""
        named = {one.name: one for one in told}
        for name in self._deployments.keys() - named.keys():
            del self._deployments[name]
        for name, one in named.items():
            known = self._deployments.get(name)
            if known is None:
                self._deployments[name] = Deployment(one)
            else:
                known.update(one)

    def deployment(self, name: str) -> Deployment | None:
        """Return a deployment by name, None when it is not served here."""
        return self._deployments.get(name)

    def pick(self, facts: Facts, now: float) -> Choice | None:
        """Return where the request should go; None leaves it to the gateway's own balancing."""
        deployment = self._deployments.get(facts.deployment)
        if deployment is None or len(self._tickets) >= TICKETS_MAX:
            self.totals.left_to_gateway += 1
            return None
        deployment.asked_at = now
        came = deployment.arrivals(forwarded=facts.forwarded)
        came.requests += 1
        came.prompt_tokens += facts.tokens  # of a replica's cache `_to_replica` knows
        hosts = deployment.usable(now)
        peers = () if facts.forwarded else deployment.usable_peers()
        if facts.avoided:
            hosts, peers = set_apart(hosts, peers, facts.avoided)
        cached = deployment.cached(facts, hosts)
        order = rank(deployment.told.policy, hosts, cached, facts, now) if hosts else []
        best = order[0] if order else None
        if best is None:
            return self._without_replica(deployment, peers, facts, now)
        # Where who waits may not go, the newcomer takes nobody's place.
        is_behind = self.waiting and self._is_behind(deployment, facts) and deployment.room(now)
        if is_behind and not best.is_full:
            return self._hold(deployment, facts, now)
        warm = cached.get(best.index, 0.0)
        peer = spill(deployment.told.policy, hosts, warm, peers) if peers else None
        if peer is not None:
            self.totals.spilled += 1
            return self._to_peer(deployment, peer, facts, (best.address(facts.is_grpc),), now)
        if best.is_full and not facts.forwarded and deployment.may_hold:
            then = (best.address(facts.is_grpc),) if facts.avoided else ()
            return self._hold(deployment, facts, now, then)
        retry = _for_retry(order, peers, facts)
        return self._to_replica(deployment, best, warm, facts, retry, now)

    def note(self, entry: Entry, now: float) -> None:
        """Take in a line of the access log."""
        ticket = self._tickets.get(entry.ticket)
        if ticket is None:
            self.totals.unmatched += entry.ended
            return
        if entry.is_attempt:
            self._note_attempt(ticket, entry)
            return
        ticket.told_at = now
        picked = ticket.host
        if entry.address:
            self._move(entry.ticket, ticket, entry.address, now)
        host = ticket.host
        # Of a request that waited, the host picked was a guess and the first attempt the room's.
        moved = entry.attempts > 1 and picked is not host and not ticket.was_held
        if moved and isinstance(picked, Replica):
            ticket.deployment.suspect(picked, now)
        if entry.first_byte_ms is not None and isinstance(host, Replica):
            host.pending.remove(entry.ticket)
        if not entry.ended:
            self._tickets.move_to_end(entry.ticket)
            return
        self.totals.matched += 1
        self._judge(ticket, entry, now)
        if isinstance(host, Replica):
            self._learn(ticket, host, entry, now)
        if not isinstance(host, Peer):
            count_answer(ticket, entry)
        if (charge := ticket.facts.charge) is not None:
            used, is_told = used_tokens(ticket, charge, entry)
            self.tokens.settle(ticket.facts.key, charge, used, now)
            self.tokens.settled["told" if is_told else "estimated"] += used
        self._close(entry.ticket)

    def look(self, seen: Mapping[str, Mapping[str, Seen]] | None, now: float) -> None:
        """Take in what the gateway says of every deployment's hosts by name; None is unknown."""
        for name, deployment in self._deployments.items():
            deployment.look(None if seen is None else seen.get(name, {}), now)

    def peer_loads(self, peer: str, loads: Mapping[str, PeerLoad] | None) -> None:
        """Take in what a peer's picker says of its deployments; None is unknown."""
        for name, deployment in self._deployments.items():
            deployment.peer_load(peer, None if loads is None else loads.get(name))

    def loads(self, now: float) -> dict[str, PeerLoad]:
        """Return what peers are told of this plane."""
        return {name: one.load(now) for name, one in self._deployments.items()}

    def expire(self, now: float) -> int:
        """Give up requests of which nothing was heard for too long; return how many."""
        before = now - TICKET_SECONDS_MAX
        expired = 0
        while self._tickets:
            number, ticket = next(iter(self._tickets.items()))
            if ticket.told_at > before:
                break
            self._close(number)
            expired += 1
        self.totals.expired += expired
        self.quarantine.expire(now)
        return expired

    def enter_room(self, number: int, attempt: int, now: float) -> float | None:
        """Take in that a request came to the waiting room; return since when it waits there.

        None if it may not: Envoy would not send it on any more, or it was tried at a host since it
        waited. One that Envoy sent straight back, as it had no host for it yet, goes on waiting.
        The replica that it was picked for before has failed it.
        """
        ticket = self._tickets.get(number)
        if ticket is None:
            return now if attempt <= RETRIES else None
        was_held, is_straight_back = ticket.was_held, attempt == ticket.held_attempt + 1
        picked = ticket.host
        self._leave(number, ticket)
        ticket.host, ticket.is_learned = None, False
        if isinstance(picked, Replica) and not was_held:
            ticket.deployment.suspect(picked, now)
        if not was_held:
            ticket.held_since = now
        ticket.held_attempt = attempt
        attempts_max = RETRIES_WITH_ROOM if ticket.may_wait else RETRIES
        may_wait = attempt <= attempts_max and (not was_held or is_straight_back)
        return ticket.held_since if may_wait else None

    def place(self, number: int, now: float) -> None:
        """Count a request that leaves the waiting room at the host it will most likely reach."""
        ticket = self._tickets.get(number)
        if ticket is None or ticket.host is not None:
            return
        hosts = ticket.deployment.usable(now)
        if hosts:
            ticket.host = host = min(hosts, key=lambda one: (one.in_flight, one.picked))
            host.open += 1
            _add_prompt(number, ticket, host, now)
        elif peers := _nearest(ticket.deployment.usable_peers(), ticket.deployment):
            ticket.host = peers[0]
            peers[0].open += 1
            peers[0].sent += 1

    @property
    def open_tickets(self) -> int:
        """Return how many requests are under way."""
        return len(self._tickets)

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        """Return what is served here, by name."""
        return self._deployments

    def _to_replica(
        self,
        deployment: Deployment,
        host: Replica,
        cached: float,
        facts: Facts,
        others: tuple[str, ...],
        now: float,
    ) -> Choice:
        number = self._next
        ticket = self._open(deployment, host, facts, now)
        uncached = max(0.0, facts.tokens - cached)
        host.pending.add(number, uncached, now)
        ticket.work = host.pending.tokens(now)
        host.picked = number
        deployment.tree.learn(host.index, facts.blocks)
        ticket.is_learned = True
        deployment.note_picked(facts.tokens, cached)
        deployment.arrivals(forwarded=facts.forwarded).prompt_tokens -= min(cached, facts.tokens)
        # With nobody else to ask, who loses the only replica waits for the next.
        ticket.may_wait = not others and deployment.may_hold and not facts.forwarded
        addresses = (host.address(facts.is_grpc), *others)
        return Choice(number, host.name, addresses, cached, may_wait=ticket.may_wait)

    def _to_peer(
        self,
        deployment: Deployment,
        peer: Peer,
        facts: Facts,
        others: tuple[str, ...],
        now: float,
    ) -> Choice:
        number = self._next
        ticket = self._open(deployment, peer, facts, now)
        peer.sent += 1
        ticket.may_wait = not others and deployment.may_hold
        return Choice(number, peer.name, (peer.address, *others), may_wait=ticket.may_wait)

    def _is_behind(self, deployment: Deployment, facts: Facts) -> bool:
        """Say whether somebody waits who is to go before the request.

        One that a peer sent does not wait here, and a broken stream has waited before.
        """
        queue = self.waiting.get(deployment.told.name)
        if not queue or facts.forwarded or facts.avoided or not deployment.may_hold:
            return False
        first = queue.most_urgent
        return first is not None and first <= deployment.urgency(facts.priority)

    def _hold(
        self, deployment: Deployment, facts: Facts, now: float, then: tuple[str, ...] = ()
    ) -> Choice:
        """Send to the waiting room; from there where the gateway likes, or to `then`."""
        number = self._next
        self._open(deployment, None, facts, now).may_wait = True
        self.totals.held += 1
        return Choice(number, "", then, held=True)

    def _without_replica(
        self, deployment: Deployment, peers: Iterable[Peer], facts: Facts, now: float
    ) -> Choice | None:
        nearest = _nearest(peers, deployment)
        may_hold = deployment.may_hold and not facts.forwarded
        # In this order the first is full only where all are.
        is_behind = (
            self.waiting and self._is_behind(deployment, facts) and deployment.peer_room() > 0
        )
        if nearest and not is_behind and not (may_hold and deployment.is_full_there(nearest[0])):
            came = deployment.arrivals(forwarded=facts.forwarded)
            came.away_requests += 1
            came.away_prompt_tokens += facts.tokens
            return self._to_peer(
                deployment, nearest[0], facts, tuple(p.address for p in nearest[1:2]), now
            )
        if may_hold:
            return self._hold(deployment, facts, now)
        self.totals.left_to_gateway += 1
        return None

    def _open(
        self, deployment: Deployment, host: Replica | Peer | None, facts: Facts, now: float
    ) -> Ticket:
        ticket = Ticket(deployment, host, facts, now)
        self._tickets[self._next] = ticket
        self._next += 1
        deployment.arrivals(forwarded=facts.forwarded).open += 1
        if facts.key:
            self.keys.begin(facts.key)
        if facts.charge is not None:
            self.tokens.take(facts.key, facts.charge, now)
        if host is not None:
            host.open += 1
        return ticket

    def _move(self, number: int, ticket: Ticket, address: str, now: float) -> None:
        """Count the request and its prompt where it really is: it waited, or was tried again."""
        host = ticket.host
        if host is None or not _is_at(host, address, ticket.facts.is_grpc):
            used = ticket.deployment.host_at(address, ticket.facts.is_grpc)
            if used is None and ticket.was_held:
                return  # still the waiting room's line: the guess of where it goes from there stays
            self._leave(number, ticket)
            ticket.host, ticket.is_learned = used, False
            if used is not None:  # None: the waiting room, or a host that is gone by now
                used.open += 1
            if isinstance(used, Replica):
                _add_prompt(number, ticket, used, now)
        if not ticket.is_learned and isinstance(ticket.host, Replica):
            ticket.deployment.tree.learn(ticket.host.index, ticket.facts.blocks)
            ticket.is_learned = True

    def _leave(self, number: int, ticket: Ticket) -> None:
        host = ticket.host
        if host is None:
            return
        host.open -= 1
        if isinstance(host, Replica):
            host.pending.remove(number)

    def _close(self, number: int) -> None:
        ticket = self._tickets.pop(number)
        ticket.deployment.arrivals(forwarded=ticket.facts.forwarded).open -= 1
        if ticket.facts.key:
            self.keys.end(ticket.facts.key)
        self._leave(number, ticket)

    def _note_attempt(self, ticket: Ticket, entry: Entry) -> None:
        """Take in that a host's connection ended under an attempt, which may be tried again."""
        if is_loss(entry) and isinstance(
            ticket.deployment.host_at(entry.address, ticket.facts.is_grpc), Replica
        ):
            ticket.lost = (*ticket.lost, entry.address)

    def _judge(self, ticket: Ticket, entry: Entry, now: float) -> None:
        """Take in whether engines were lost with the request, or one answered it."""
        if not ticket.facts.fingerprint or ticket.facts.is_grpc:
            return  # a replica host answers for its engine, away or killed alike
        if not entry.flags and 200 <= entry.status < 300:
            self.quarantine.answered(ticket.facts.fingerprint, now)
            return  # what is refused, here or at a peer, was answered by no engine
        # A peer's gateway that went tells nothing of an engine; what it says itself does.
        died = entry.lost or (isinstance(ticket.host, Replica) and is_loss(entry))
        here = (entry.address,) if died and entry.address else ()
        # A host that refused the connection was never reached: of it no attempt is told.
        hosts = tuple(dict.fromkeys((*ticket.lost, *here)))
        if hosts and self.quarantine.lost(ticket.facts.fingerprint, hosts, now):
            self.totals.quarantined += 1

    def _learn(self, ticket: Ticket, host: Replica, entry: Entry, now: float) -> None:
        if is_host_fault(entry):
            ticket.deployment.suspect(host, now)
        elif is_refusal(entry, ticket.facts.is_grpc):
            host.refused(now)
        elif is_error(entry, ticket.facts.is_grpc):
            ticket.deployment.failed(host, now, at_gateway=is_error_at_gateway(entry))
        elif entry.status and not entry.flags:
            host.errors.answered()
        first = entry.first_byte_ms
        # An answer that came whole says nothing of when its prompt had been read.
        if first is not None and entry.status == 200 and is_streamed(entry, first):
            ticket.deployment.pace.learn(ticket.work, first / 1000.0)


def _add_prompt(number: int, ticket: Ticket, host: Replica, now: float) -> None:
    """Count what the host has to read of the prompt, beside what its cache has of it."""
    facts = ticket.facts
    cached = ticket.deployment.cached(facts, (host,)).get(host.index, 0.0)
    host.pending.add(number, max(0.0, facts.tokens - cached), now)


def _for_retry(order: list[Replica], peers: Iterable[Peer], facts: Facts) -> tuple[str, ...]:
    """Return the address where a request goes whose replica dies; there is one retry.

    At the nearest peer, if there is any: what took the replica may have taken all that are here.
    """
    nearest = min(peers, key=lambda peer: (peer.rank, peer.name), default=None)
    if nearest is not None:
        return (nearest.address,)
    return (order[1].address(facts.is_grpc),) if len(order) > 1 else ()


def _nearest(peers: Iterable[Peer], deployment: Deployment) -> list[Peer]:
    """Return the peers in the order in which a plane without a replica asks them.

    Those of unknown load come after those that have room, and before those that are full.
    """

    def key(peer: Peer) -> tuple[bool, bool, float, int, str]:
        busy = peer.busy()
        return deployment.is_full_there(peer), busy is None, busy or 0.0, peer.rank, peer.name

    return sorted(peers, key=key)


def _is_at(host: Replica | Peer, address: str, is_grpc: bool) -> bool:
    if isinstance(host, Peer):
        return host.address == address
    return host.address(is_grpc) == address
