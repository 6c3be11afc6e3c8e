"""The host's own instruments, alike for every engine; the engine's stand below them on the page.

What begins with `skerry_replica_engine_` is read from the engine's page, whatever it calls it.
"""

from prometheus_client import Gauge

from skerry.plumbing import metrics
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.load import EngineLoad

ENDED = metrics.counter(
    "skerry_replica_ended_requests_total",
    unit="requests",
    help="Generate requests over gRPC that ended: finished, failed, refused, aborted, cancelled.",
    labels=("outcome",),
)
TOKENS = metrics.counter(
    "skerry_replica_generated_tokens_total",
    unit="tokens",
    help="Tokens sent over gRPC; those sent over HTTP are in the engine's own counters.",
)
RUNNING = metrics.gauge(
    "skerry_replica_running_requests",
    unit="requests",
    help="Generate requests under way over gRPC.",
)
FIRST_TOKEN = metrics.histogram(
    "skerry_replica_first_token_seconds",
    unit="seconds",
    help="Time from a Generate request over gRPC to its first token.",
)
RESTARTS = metrics.counter(
    "skerry_replica_engine_restarts_total",
    unit="restarts",
    help="Starts of the engine after it had ended by itself.",
)
STATE = metrics.gauge(
    "skerry_replica_state",
    unit="state",
    help="1 for the state that the replica is in, 0 for the others.",
    labels=("state",),
)
ENGINE_REQUESTS = metrics.gauge(
    "skerry_replica_engine_requests",
    unit="requests",
    help="Requests at the engine over HTTP and gRPC: running, queued. Absent while not known.",
    labels=("state",),
)
ENGINE_TOKENS = metrics.counter(
    "skerry_replica_engine_tokens_total",
    unit="tokens",
    help="Tokens by the engine's count, through its restarts: prompt, cached, generated.",
    labels=("kind",),
)
KV_USED = metrics.gauge(
    "skerry_replica_engine_kv_used_ratio",
    unit="ratio",
    help="Share of the engine's key-value cache in use. Absent where the engine does not tell.",
    labels=("cache",),
)

_DEVICE = "device"


def show_state(state: HostState) -> None:
    """Set the state's gauge to 1 and all others to 0."""
    for one in HostState:
        STATE.labels(one.value).set(one is state)


class EngineReadings:
    """Puts what an engine tells into the instruments; counts on when it begins at 0 again."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._last: dict[str, int] = {}

    def take(self, load: EngineLoad) -> None:
        """Put one reading in; what it does not tell is taken from the page, not shown as 0."""
        for state, count in (("running", load.running_requests), ("queued", load.queued_requests)):
            if count is None:
                _drop(ENGINE_REQUESTS, state)
            else:
                ENGINE_REQUESTS.labels(state).set(count)
        for kind, count in (
            ("prompt", load.prompt_tokens),
            ("cached", load.cached_prompt_tokens),
            ("generated", load.generated_tokens),
        ):
            if count is not None:
                last = self._last.get(kind, 0)
                ENGINE_TOKENS.labels(kind).inc(count - last if count >= last else count)
                self._last[kind] = count
        if load.kv_used_ratio is None:
            _drop(KV_USED, _DEVICE)
        else:
            KV_USED.labels(_DEVICE).set(load.kv_used_ratio)


def _drop(gauge: Gauge, label: str) -> None:
    try:
        gauge.remove(label)
    except KeyError:
        return  # it was not there
