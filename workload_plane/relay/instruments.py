"""The relay's own instruments, on its port's /metrics."""

from skerry.plumbing import metrics

STREAMS = metrics.counter(
    "skerry_relay_streams_total",
    unit="streams",
    help="Streams that the relay has taken, by API: chat, completions or generate.",
    labels=("deployment", "api"),
)
RUNNING = metrics.gauge(
    "skerry_relay_running_streams",
    unit="streams",
    help="Streams under way through the relay.",
)
BREAKS = metrics.counter(
    "skerry_relay_breaks_total",
    unit="breaks",
    help="Times that the replica or the peer plane of a stream was lost mid-stream.",
    labels=("deployment",),
)
CONTINUED = metrics.counter(
    "skerry_relay_continuations_total",
    unit="continuations",
    help="Times that a stream went on at another replica or plane.",
    labels=("deployment",),
)
BROKEN = metrics.counter(
    "skerry_relay_broken_streams_total",
    unit="streams",
    help="Streams that ended with an error because they could not be continued, by reason.",
    labels=("deployment", "reason"),
)
PASSED = metrics.counter(
    "skerry_relay_unkept_streams_total",
    unit="streams",
    help="Streams carried without being kept, so not continued once begun, by reason.",
    labels=("deployment", "reason"),
)
HELD = metrics.gauge(
    "skerry_relay_held_bytes",
    unit="bytes",
    help="Bytes held of requests and answers to continue them.",
)
SEAM = metrics.histogram(
    "skerry_relay_seam_seconds",
    unit="seconds",
    help="Time from the loss of a stream's replica to another one's taking it over.",
)
