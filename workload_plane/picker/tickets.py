"""One request under way, and what a line of the access log says became of it. PURE.

`picker` holds the tickets; here is how an answer, a loss and a refusal are told from each other.
"""

from bisect import bisect_left

from workload_plane.picker.answer_lengths import Sent
from workload_plane.picker.body import BYTES_PER_TOKEN
from workload_plane.picker.counts import FIRST_BYTE_SECONDS
from workload_plane.picker.deployments import Deployment
from workload_plane.picker.facts import Entry, Facts
from workload_plane.picker.hosts import Peer, Replica
from workload_plane.picker.key_tokens import Charge
from workload_plane.picker.wire import LOSSES

# What Envoy says when the host, not the request, was at fault: no connection, reset, no answer.
_HOST_FAULTS = ("UF", "UC", "UR", "LR")
_REFUSED = (429, 503)
_GRPC_EXHAUSTED = 8
# UNKNOWN, INTERNAL, DATA_LOSS: what Envoy takes for a 500 as well.
_GRPC_ERRORS = (2, 13, 15)
_AT_GATEWAY = (502, 504)
# A first token may take the objective's time, and this for each token of its prompt: as
# `skerry simulate` judges.
TTFT_SECONDS_PER_TOKEN = 0.00025


class Ticket:
    """One request under way: where it is, and what it was taken to cost there."""

    __slots__ = (
        "deployment",
        "facts",
        "held_attempt",
        "held_since",
        "host",
        "is_learned",
        "lost",
        "may_wait",
        "picked_at",
        "told_at",
        "work",
    )

    def __init__(
        self, deployment: Deployment, host: Replica | Peer | None, facts: Facts, now: float
    ) -> None:
        self.deployment = deployment
        self.host = host
        self.facts = facts
        self.lost: tuple[str, ...] = ()  # addresses of hosts that it was moved from
        self.picked_at = self.told_at = now
        self.work = 0.0
        self.held_attempt = 0  # by which it came to the waiting room last, 0 for not yet
        self.held_since = now
        # `is_learned`: its host is taken to hold its prompt.
        self.may_wait = self.is_learned = False

    @property
    def was_held(self) -> bool:
        """Say whether it came to the waiting room."""
        return self.held_attempt > 0


def count_answer(ticket: Ticket, entry: Entry) -> None:
    """Count what a replica here answered, or nobody did, and hold it against the objective.

    Of an answer that came whole nobody knows when its first token was there.
    """
    told, answers = ticket.deployment.told, ticket.deployment.answers
    if entry.status == 0 or (entry.status < 500 and entry.status not in (200, 429)):
        return  # whoever asked went away, or asked for what is not there
    if entry.status != 200:
        answers.failed += 1
        return
    answers.finished += 1
    first = entry.first_byte_ms
    if first is None or not is_streamed(entry, first):
        return
    ticket.deployment.first_bytes[bisect_left(FIRST_BYTE_SECONDS, first / 1000.0)] += 1
    if told.ttft_seconds <= 0.0:
        return
    answers.judged += 1
    allowed = told.ttft_seconds + TTFT_SECONDS_PER_TOKEN * ticket.facts.tokens
    answers.good += first / 1000.0 <= allowed


def used_tokens(ticket: Ticket, charge: Charge, entry: Entry) -> tuple[float, bool]:
    """Return what an ended request is taken to have used, and whether the engine itself told it.

    Nothing where it was refused or lost before its answer; its prompt where the client left before
    that, for a replica may have read it. What is learned for the next ones is learned here.
    """
    facts, usage = ticket.facts, entry.usage
    if entry.status == 0:
        return (charge.prompt if entry.address else 0.0), False
    is_failed = facts.is_grpc and entry.grpc_status not in (0, None) and not entry.bytes_sent
    if entry.status >= 400 or is_failed:
        return 0.0, False
    first = entry.first_byte_ms
    is_stream = first is not None and is_streamed(entry, first)
    sent = Sent(entry.bytes_sent, facts.is_grpc, is_stream or bool(usage and usage.events))
    lengths = ticket.deployment.answer_lengths
    answer = lengths.tokens_of(usage, sent)
    if usage is not None and not entry.flags:
        lengths.learn(answer, usage, sent)
    if usage is None or usage.prompt is None:
        prompt = charge.prompt
        if not prompt and not charge.is_resumed:  # nobody said beforehand how long it is
            prompt = entry.bytes_received / BYTES_PER_TOKEN
        return prompt + answer, False
    return (charge.prompt if charge.is_resumed else usage.prompt) + answer, True


def is_streamed(entry: Entry, first_byte_ms: int) -> bool:
    """Say whether the answer came piece by piece: the rest well after its first byte."""
    return entry.duration_ms > first_byte_ms * 1.25 + 20


def is_host_fault(entry: Entry) -> bool:
    """Say whether the host was at fault, and not the request."""
    return any(flag in _HOST_FAULTS for flag in entry.flags.split(","))


def is_loss(entry: Entry) -> bool:
    """Say whether the connection of a host that had the request ended, or was reset."""
    return any(flag in LOSSES for flag in entry.flags.split(","))


def is_refusal(entry: Entry, is_grpc: bool) -> bool:
    """Say whether the engine itself said that it has all it takes."""
    if entry.flags:
        return False
    return entry.status in _REFUSED or (is_grpc and entry.grpc_status == _GRPC_EXHAUSTED)


def is_error(entry: Entry, is_grpc: bool) -> bool:
    """Say whether the host answered with an error of its own, and not that it is full."""
    if entry.flags:
        return False
    failed = entry.status >= 500 and entry.status not in _REFUSED
    return failed or (is_grpc and entry.grpc_status in _GRPC_ERRORS)


def is_error_at_gateway(entry: Entry) -> bool:
    """Say whether the error is of the kind that a gateway answers with: fewer of them tell."""
    return entry.status in _AT_GATEWAY
