"""What the agent shows of its gateway."""

from skerry.plumbing import metrics

FAULTS = metrics.gauge(
    "skerry_plane_gateway_faults",
    unit="faults",
    help="What the plane's agent finds wrong with its gateway; `skerry describe plane` has it in"
    " words.",
)
