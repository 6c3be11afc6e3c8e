"""The host's own instruments; the engine's stand below them on the same page."""

from skerry.plumbing import metrics

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
