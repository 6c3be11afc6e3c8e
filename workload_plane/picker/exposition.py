"""The picker's numbers as Prometheus metrics, filled in when somebody asks for them."""

from itertools import accumulate

from skerry.plumbing import metrics
from workload_plane.picker.counts import FIRST_BYTE_SECONDS
from workload_plane.picker.picker import Picker
from workload_plane.picker.room import Room

_ASKED = metrics.counter(
    "skerry_picker_requests_total",
    unit="requests",
    help="Requests that the gateway asked about: steered, spilled (to a peer by load), held"
    " (sent to the waiting room), left (to the gateway's own balancing).",
    labels=("outcome",),
)
_JOINED = metrics.counter(
    "skerry_picker_log_entries_total",
    unit="entries",
    help="Ended requests by what the access log told: matched, unmatched (of a run before, or told"
    " twice), expired (nothing was told).",
    labels=("outcome",),
)
_PROMPT_TOKENS = metrics.counter(
    "skerry_picker_prompt_tokens_total",
    unit="tokens",
    help="Estimated prompt tokens of steered requests, by deployment.",
    labels=("deployment",),
)
_CACHED_TOKENS = metrics.counter(
    "skerry_picker_cached_tokens_total",
    unit="tokens",
    help="Those of skerry_picker_prompt_tokens_total that the chosen replica is taken to have in"
    " its cache.",
    labels=("deployment",),
)
_FIRST_BYTES = metrics.counter(
    "skerry_picker_first_byte_answers_total",
    unit="answers",
    help="Streamed answers of replicas here whose first byte came within `le` seconds, cumulative"
    " as the buckets of a histogram.",
    labels=("deployment", "le"),
)
_OPEN = metrics.gauge(
    "skerry_picker_open_requests",
    unit="requests",
    help="Requests under way that were picked for.",
)
_PENDING = metrics.gauge(
    "skerry_picker_pending_tokens",
    unit="tokens",
    help="Prompt tokens that the deployment's replicas have yet to read, estimated.",
    labels=("deployment",),
)
_USABLE = metrics.gauge(
    "skerry_picker_usable_replicas",
    unit="replicas",
    help="Replicas that may be chosen: not draining, healthy by the gateway's word, not suspect.",
    labels=("deployment",),
)
_UNASKED = metrics.gauge(
    "skerry_picker_unasked_requests",
    unit="requests",
    help="Requests at replicas that the gateway did not ask about, or before this picker started.",
    labels=("deployment",),
)
_PEERS = metrics.gauge(
    "skerry_picker_known_peers",
    unit="peers",
    help="Peers that told how busy they are; only these get requests by load.",
    labels=("deployment",),
)
_WAITING = metrics.gauge(
    "skerry_picker_waiting_requests",
    unit="requests",
    help="Requests in the waiting room.",
    labels=("deployment",),
)
_LEFT_ROOM = metrics.counter(
    "skerry_picker_room_requests_total",
    unit="requests",
    help="Requests that left the waiting room: released (a replica had room), refused (429, 503).",
    labels=("outcome",),
)
_REFUSED = metrics.counter(
    "skerry_picker_refused_requests_total",
    unit="requests",
    help="Requests refused because engines died of the very same one.",
)
_KEY_REFUSED = metrics.counter(
    "skerry_picker_key_refused_requests_total",
    unit="requests",
    help="Requests refused because their API key had as many under way as it may.",
)
_TOKENS_REFUSED = metrics.counter(
    "skerry_picker_key_token_refused_requests_total",
    unit="requests",
    help="Requests refused because their API key has no tokens for them, by bound: rate (a minute),"
    " budget (a day or month).",
    labels=("bound",),
)
_TOKENS_COUNTED = metrics.counter(
    "skerry_picker_key_tokens_total",
    unit="tokens",
    help="Tokens of ended requests whose API keys have a bound on tokens, by source: told (by the"
    " engine), estimated (by the body's and the answer's bytes and events).",
    labels=("source",),
)
_QUARANTINED = metrics.gauge(
    "skerry_picker_quarantined_requests",
    unit="requests",
    help="Different requests that are refused now because engines died of them.",
)


class Exposition:
    """Renders the numbers of one picker and its room."""

    def __init__(self, picker: Picker, room: Room) -> None:
        """Begin where both are: counters count from here."""
        self._picker = picker
        self._room = room
        self._told: dict[tuple[str, str], float] = {}

    def render(self, now: float) -> bytes:
        """Return all metrics of the process in Prometheus' text format."""
        totals, room = self._picker.totals, self._room
        steered = totals.asked - totals.left_to_gateway - totals.spilled - totals.held
        tokens = self._picker.tokens
        steered -= totals.refused + self._picker.keys.refused + sum(tokens.refused.values())
        for outcome, count in (
            ("steered", steered),
            ("spilled", totals.spilled),
            ("held", totals.held),
            ("left", totals.left_to_gateway),
        ):
            _ASKED.labels(outcome).inc(self._grown("asked", outcome, count))
        for outcome, count in (
            ("matched", totals.matched),
            ("unmatched", totals.unmatched),
            ("expired", totals.expired),
        ):
            _JOINED.labels(outcome).inc(self._grown("joined", outcome, count))
        for outcome, count in (("released", room.released), ("refused", room.refused)):
            _LEFT_ROOM.labels(outcome).inc(self._grown("room", outcome, count))
        _REFUSED.inc(self._grown("refused", "", totals.refused))
        _KEY_REFUSED.inc(self._grown("key-refused", "", self._picker.keys.refused))
        for bound, refused in tokens.refused.items():
            grown = self._grown("tokens-refused", bound, refused)
            _TOKENS_REFUSED.labels(bound.value).inc(grown)
        for source, used in tokens.settled.items():
            _TOKENS_COUNTED.labels(source).inc(self._grown("tokens", source, used))
        _QUARANTINED.set(self._picker.quarantine.refused(now))
        _OPEN.set(self._picker.open_tickets)
        self._set_deployments(now)
        return metrics.render()

    def _set_deployments(self, now: float) -> None:
        for gauge in (_PENDING, _WAITING, _USABLE, _UNASKED, _PEERS):
            gauge.clear()  # of deployments that are gone
        for name, one in self._picker.deployments.items():
            pending = sum(host.pending.tokens(now) for host in one.replicas.values())
            _PENDING.labels(name).set(round(pending))
            _USABLE.labels(name).set(len(one.usable(now)))
            _UNASKED.labels(name).set(sum(host.untracked for host in one.replicas.values()))
            _PEERS.labels(name).set(sum(peer.busy() is not None for peer in one.peers.values()))
            _WAITING.labels(name).set(self._room.waiting_for(name))
            _PROMPT_TOKENS.labels(name).inc(self._grown("prompt", name, one.prompt_tokens))
            _CACHED_TOKENS.labels(name).inc(self._grown("cached", name, one.cached_tokens))
            bounds = (*map(str, FIRST_BYTE_SECONDS), "+Inf")
            for bound, count in zip(bounds, accumulate(one.first_bytes), strict=True):
                grown = self._grown("first-byte", f"{name}/{bound}", count)
                _FIRST_BYTES.labels(name, bound).inc(grown)

    def _grown(self, what: str, label: str, total: float) -> float:
        before = self._told.get((what, label), 0.0)
        self._told[what, label] = total
        # A deployment that was deleted and made anew counts from zero.
        return total - before if total >= before else total
