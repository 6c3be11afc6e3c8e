"""What the local loop shows: its decisions, and what they rest on, by deployment."""

from collections.abc import Collection

from skerry.fleet.autoscaling.decision import ScalingDecision
from skerry.fleet.coefficients import Coefficients
from skerry.plumbing import metrics
from workload_plane.autoscale.signals import Readings

_TARGET = metrics.gauge(
    "skerry_plane_scaling_target_replicas",
    unit="replicas",
    help="Replicas that the plane's own loop wants of a deployment, inside its envelope.",
    labels=("deployment",),
)
_BOUND = metrics.gauge(
    "skerry_plane_scaling_bound_replicas",
    unit="replicas",
    help="The envelope last granted: its floor and its ceiling, of all pools of the plane.",
    labels=("deployment", "bound"),
)
_THERE = metrics.gauge(
    "skerry_plane_scaling_counted_replicas",
    unit="replicas",
    help="Replicas as the last decision counted them: ready, starting, draining.",
    labels=("deployment", "state"),
)
_NEED = metrics.gauge(
    "skerry_plane_scaling_need_replicas",
    unit="replicas",
    help="What the load needs, in replicas and parts of them: work (what comes in), reserve (what"
    " forecasts missed), queue (what waits), saturation (what is in flight), all before the"
    " utilisation; exact is their sum after it. Absent while nothing is known.",
    labels=("deployment", "part"),
)
_UTILIZATION = metrics.gauge(
    "skerry_plane_scaling_utilization_ratio",
    unit="ratio",
    help="How full replicas may be: it follows whether answers meet their objective.",
    labels=("deployment",),
)
_CHANGES = metrics.counter(
    "skerry_plane_scaling_changes_total",
    unit="changes",
    help="Changes of the number that the plane's loop wants, by way (up, down) and by reason.",
    labels=("deployment", "way", "because"),
)
_HELD = metrics.counter(
    "skerry_plane_scaling_held_total",
    unit="held",
    help="Decisions that kept the number for want of signals: the picker or all engines said"
    " nothing, or not for long enough.",
    labels=("deployment",),
)
_ANSWERS = metrics.gauge(
    "skerry_plane_scaling_answers",
    unit="answers",
    help="Answers of replicas here since the agent began: judged against the objective, and good"
    " (it was met).",
    labels=("deployment", "kind"),
)
_COST = metrics.gauge(
    "skerry_plane_scaling_cost_seconds",
    unit="seconds",
    help="What tokens cost a replica as the loop takes it: prompt (a token), iteration, decode (a"
    " token); absent where it is not known and replicas are counted by concurrency.",
    labels=("deployment", "accelerator", "of"),
)


def show_decision(deployment: str, decision: ScalingDecision, before: int | None) -> None:
    """Show a decision; `before` is the target of the one before it."""
    counts, bounds, need = decision.counts, decision.bounds, decision.need
    _TARGET.labels(deployment).set(decision.target)
    _BOUND.labels(deployment, "floor").set(bounds.floor)
    _BOUND.labels(deployment, "ceiling").set(bounds.ceiling)
    for state in ("ready", "starting", "draining"):
        _THERE.labels(deployment, state).set(getattr(counts, state))
    if need is not None:
        for part in ("work", "reserve", "queue", "saturation", "exact"):
            _NEED.labels(deployment, part).set(getattr(need, part))
        _UTILIZATION.labels(deployment).set(need.utilization)
    if decision.because == "signal_missing":
        _HELD.labels(deployment).inc()
    if before is not None and decision.target != before:
        way = "up" if decision.target > before else "down"
        _CHANGES.labels(deployment, way, decision.because.value).inc()


def show_readings(deployment: str, readings: Readings) -> None:
    """Show how many answers were judged."""
    _ANSWERS.labels(deployment, "judged").set(readings.local.judged_total)
    _ANSWERS.labels(deployment, "good").set(readings.local.good_total)


def show_costs(deployment: str, accelerator: str, costs: Coefficients | None) -> None:
    """Show what tokens are taken to cost."""
    if costs is None:
        return
    _COST.labels(deployment, accelerator, "prompt").set(costs.prefill_seconds_per_token)
    _COST.labels(deployment, accelerator, "iteration").set(costs.iteration_seconds)
    _COST.labels(deployment, accelerator, "decode").set(costs.decode_seconds_per_token)


def forget(deployments: Collection[str]) -> None:
    """Show nothing any more of deployments that are not scaled here."""
    forget_decisions(deployments)
    for gauge in (_ANSWERS, _COST):
        for deployment in deployments:
            gauge.remove_by_labels({"deployment": deployment})


def forget_decisions(deployments: Collection[str]) -> None:
    """Show no decision any more of deployments that others decide about."""
    for gauge in (_TARGET, _BOUND, _THERE, _NEED, _UTILIZATION):
        for deployment in deployments:
            gauge.remove_by_labels({"deployment": deployment})
