"""What the agent shows of its proof of residency."""

from skerry.plumbing import metrics

UNPROVED = metrics.counter(
    "skerry_plane_residency_unproved_seconds_total",
    unit="seconds",
    help="Time for which it is not proven where the gateway's requests went;"
    " `skerry audit residency` says why.",
)
