"""Envoy's question before each request (`ext_authz` over HTTP): where should this one go?

It is answered with 200: the picker steers. It refuses nothing but a request that engines died of,
with 422, and one that its API key may not have now (at once, or for its tokens), with 429. Envoy
goes on by itself when no answer comes within its timeout.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from skerry.fleet.routing import RoutingPolicy
from skerry.plumbing.clock import Clock
from workload_plane.gateway.avoiding import read_avoided
from workload_plane.picker import body
from workload_plane.picker.counts import Counters, render_counters
from workload_plane.picker.deployments import Deployment
from workload_plane.picker.facts import Choice, Facts
from workload_plane.picker.http_server import Exchange, read_number, response
from workload_plane.picker.key_answers import busy, out_of_tokens, with_standing
from workload_plane.picker.key_tokens import Charge
from workload_plane.picker.picker import Picker
from workload_plane.picker.quarantine import REFUSED_SECONDS, fingerprint_of
from workload_plane.picker.wire import (
    AVOID_HEADER,
    BODY_BYTES_HEADER,
    COUNTERS_PATH,
    DEPLOYMENT_HEADER,
    ENDPOINT_HEADER,
    FORWARDED_PREFIX,
    GENERATE_PATH,
    HEALTH_PATH,
    KEY_HEADER,
    LOAD_PATH,
    PICK_PREFIX,
    PRIORITY_HEADER,
    RESUMED_HEADER,
    RETRIES_HEADER,
    RETRIES_WITH_ROOM,
    SEEN_BYTES_MAX,
    SESSION_HEADER,
    TICKET_HEADER,
)

_LEFT = response(b"200 OK")
_UNKNOWN = response(b"404 Not Found")
# Of OpenAI's shape; no status that clients take for a reason to come again at once.
_REFUSED = response(
    b"422 Unprocessable Entity",
    json.dumps(
        {
            "error": {
                "message": "replicas were lost twice while they worked on this very request; it is"
                f" not tried again for up to {REFUSED_SECONDS / 60:.0f} minutes",
                "type": "invalid_request_error",
                "param": None,
                "code": "request_quarantined",
            }
        }
    ).encode(),
    (b"content-type", b"application/json"),
)
_PICK = PICK_PREFIX.encode()
_FORWARDED = FORWARDED_PREFIX.encode()
_LOAD = LOAD_PATH.encode()
_COUNTERS = COUNTERS_PATH.encode()
_HEALTH = HEALTH_PATH.encode()
_GENERATE = GENERATE_PATH.encode()
_DEPLOYMENT = DEPLOYMENT_HEADER.encode()
_SESSION = SESSION_HEADER.encode()
_PRIORITY = PRIORITY_HEADER.encode()
_AVOID = AVOID_HEADER.encode()
_RESUMED = RESUMED_HEADER.encode()
_KEY = KEY_HEADER.encode()
_BODY_BYTES = BODY_BYTES_HEADER.encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"
    + TICKET_HEADER.encode()
    + b": %d\r\n"
    + ENDPOINT_HEADER.encode()
    + b": %b\r\n\r\n"
)
# The waiting room's "now try again" takes one retry; the one that a dying replica costs stays.
_HELD = _ANSWER[:-2] + RETRIES_HEADER.encode() + b": %d\r\n\r\n" % RETRIES_WITH_ROOM
_TICKET_ONLY = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + TICKET_HEADER.encode() + b": %d\r\n\r\n"
)


class Rooms(NamedTuple):
    """Where requests wait, over HTTP and over gRPC, as Envoy knows those hosts."""

    http: bytes
    grpc: bytes


class Authz:
    """Answers Envoy's questions, and peers that ask how busy this plane is."""

    def __init__(
        self,
        picker: Picker,
        clock: Clock,
        rooms: Rooms,
        plane: str,
        waiting_for: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Ask `picker` of `plane`; held requests go to the waiting room's `rooms`.

        `waiting_for` says how many of a deployment wait there.
        """
        self._waiting_for = waiting_for
        self._plane = plane
        self._picker = picker
        self._rooms = rooms
        self._now, self._when = clock.monotonic, clock.now

    def __call__(self, exchange: Exchange) -> None:
        """Answer one question."""
        path = exchange.path
        if path.startswith(_PICK):
            exchange.answer(self._pick(exchange, forwarded=False))
        elif path.startswith(_FORWARDED):
            exchange.answer(self._pick(exchange, forwarded=True))
        elif path == _LOAD:
            exchange.answer(self._load())
        elif path == _COUNTERS:
            exchange.answer(self._counters())
        elif path == _HEALTH:
            exchange.answer(_LEFT)
        else:
            exchange.answer(_UNKNOWN)

    def _pick(self, exchange: Exchange, *, forwarded: bool) -> bytes:
        picker, headers = self._picker, exchange.headers
        picker.totals.asked += 1
        name = headers.get(_DEPLOYMENT, b"").decode("latin-1")
        deployment = picker.deployment(name)
        if deployment is None:
            picker.totals.left_to_gateway += 1
            return _LEFT
        facts = read_facts(exchange, name, deployment.told.policy, forwarded=forwarded)
        if told := headers.get(_AVOID):
            facts = facts._replace(avoided=_avoided(told, self._plane))
        if key := b"" if forwarded else headers.get(_KEY, b""):
            facts = facts._replace(key=key.decode("latin-1"))
            # A stream that broke was let in when it began.
            if not _is_resumed(exchange) and not picker.keys.admits(facts.key):
                return busy(is_grpc=facts.is_grpc)
        now = self._now()
        if facts.key and picker.tokens.is_counted(facts.key):
            facts = facts._replace(charge=self._charge(exchange, facts, deployment))
            if (refused := self._out_of_tokens(facts, now)) is not None:
                return refused
        if picker.quarantine.refuses(facts.fingerprint, now):
            picker.totals.refused += 1
            return _REFUSED
        choice = picker.pick(facts, now)
        answer = _LEFT if choice is None else render(choice, facts.is_grpc, self._rooms)
        if facts.charge is None:
            return answer
        return with_standing(answer, picker.tokens.standing(facts.key, now))

    def _charge(self, exchange: Exchange, facts: Facts, deployment: Deployment) -> Charge:
        """Return what a request is taken to cost until it ended."""
        answer = deployment.answer_lengths.tokens
        if not facts.is_grpc and (limit := body.answer_limit(exchange.body)) is not None:
            answer = min(answer, limit)
        period = self._picker.tokens.period(facts.key, self._when())
        if _is_resumed(exchange):
            return Charge(0.0, answer, period, is_resumed=True)
        # Where the policy reads nothing of a body all of it is taken for the prompt.
        told = read_number(exchange.headers.get(_BODY_BYTES)) or len(exchange.body)
        prompt = facts.tokens or told / body.BYTES_PER_TOKEN
        return Charge(prompt, prompt + answer, period)

    def _out_of_tokens(self, facts: Facts, now: float) -> bytes | None:
        """Return the answer to a request for which its key has no tokens, None where it has.

        A stream that broke was let in when it began.
        """
        tokens = self._picker.tokens
        if facts.charge is None or facts.charge.is_resumed:
            return None
        refusal = tokens.refusal(facts.key, facts.charge, now, self._when())
        if refusal is None:
            return None
        standing = tokens.standing(facts.key, now)
        return out_of_tokens(refusal, standing, is_grpc=facts.is_grpc)

    def _load(self) -> bytes:
        loads = self._picker.loads(self._now())
        text = json.dumps({name: load._asdict() for name, load in loads.items()})
        return response(b"200 OK", text.encode(), (b"content-type", b"application/json"))

    def _counters(self) -> bytes:
        now = self._now()
        counters = Counters(
            run=self._picker.run,
            deployments={
                name: one.counters(self._waiting_for(name), now)
                for name, one in self._picker.deployments.items()
            },
            spent=self._picker.tokens.told(self._when()),
        )
        kind = (b"content-type", b"application/json")
        return response(b"200 OK", render_counters(counters), kind)


def _is_resumed(exchange: Exchange) -> bool:
    """Say whether the relay goes on with a stream; it may not know which host it is to avoid."""
    return _RESUMED in exchange.headers or _AVOID in exchange.headers


def read_facts(exchange: Exchange, name: str, policy: RoutingPolicy, *, forwarded: bool) -> Facts:
    """Return what a question says of its request, no more than the policy needs."""
    headers, raw = exchange.headers, exchange.body
    is_grpc = exchange.path.endswith(_GENERATE)
    priority = read_number(headers.get(_PRIORITY))
    if policy is RoutingPolicy.LEAST_REQUEST:
        return Facts(name, is_grpc=is_grpc, forwarded=forwarded, priority=priority)
    told = headers.get(_BODY_BYTES, b"")
    length = int(told) if told.isdigit() else len(raw)
    if not told.isdigit() and len(raw) >= SEEN_BYTES_MAX:
        length = len(raw) + 1  # sent in chunks, and cut: how long it is nobody said
    prompt = body.read_message(raw) if is_grpc else body.read_json(raw, length)
    return Facts(
        name,
        prompt.blocks,
        prompt.block_tokens,
        prompt.tokens,
        _session(headers.get(_SESSION, b""), raw, policy),
        is_grpc,
        forwarded,
        b"" if is_grpc else fingerprint_of(name, raw, length),
        priority=priority,
    )


def render(choice: Choice, is_grpc: bool, rooms: Rooms) -> bytes:
    """Return the answer that steers Envoy."""
    if choice.held or choice.may_wait:
        room = rooms.grpc if is_grpc else rooms.http
        addresses = (address.encode() for address in choice.addresses)
        hosts = (room, *addresses) if choice.held else (*addresses, room)
        return _HELD % (choice.ticket, b",".join(hosts))
    if not choice.addresses:
        return _TICKET_ONLY % choice.ticket
    return _ANSWER % (choice.ticket, ",".join(choice.addresses).encode())


def _avoided(told: bytes, here: str) -> tuple[tuple[str, str], ...]:
    return tuple((plane if plane != here else "", name) for plane, name in read_avoided(told))


def _session(key: bytes, raw: bytes, policy: RoutingPolicy) -> int:
    if key:
        return body.session_hash(key)
    if policy is not RoutingPolicy.SESSION:
        return 0
    return body.session_hash(body.session_in(raw) or body.beginning(raw))
