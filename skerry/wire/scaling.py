"""Scaling, loads and decisions, fleet <-> protobuf.

What a plane tells is bounded here, and a load that cannot be is left out: one bad number must not
hide the others.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from operator import attrgetter

from skerry.api.common.v1 import deployment_pb2, scaling_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.answers import WINDOW_SECONDS, RecentAnswers
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.autoscaling.told import (
    COEFFICIENTS_MAX,
    LOADS_MAX,
    SENTENCE_CHARACTERS_MAX,
    DeploymentLoad,
    LoadReport,
    ScalingTerms,
    ToldDecision,
)
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.scaling import DEFAULT_ZONE, FloorSchedule, Scaling, Strategy
from skerry.fleet.token_budget import KEYS_TOLD_MAX

BECAUSE_CHARACTERS_MAX = 64
ACCELERATOR_CHARACTERS_MAX = 63  # as profiles have it; people read it
DECISIONS_TOLD_MAX = 64  # of a plane in one report, at half a kilobyte each; the next has more
COEFFICIENT_FIELDS = tuple(field.name for field in fields(Coefficients))
_READING_FIELDS = tuple(field.name for field in fields(LoadReading) if field.name != "at")
# Thousands of readings come in each second.
_reading_values = attrgetter(*_READING_FIELDS)
_NEED_FIELDS = tuple(f.name for f in fields(Need) if f.name not in ("replicas", "spares"))
_COUNTS = (
    *("target", "ready", "starting", "draining", "floor", "ceiling"),
    *("scheduled", "min_available"),
)


def scaling_to_proto(scaling: Scaling) -> deployment_pb2.Scaling:
    """Return the message of a deployment's scaling; what nobody said stays out of it."""
    by_default = scaling.strategy is Strategy.TOKEN_WORK
    return deployment_pb2.Scaling(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        window_seconds=scaling.window_seconds,
        scale_down_delay_seconds=scaling.scale_down_delay_seconds,
        concurrency_target=scaling.concurrency_target,
        target_utilization=scaling.target_utilization,
        strategy="" if by_default else scaling.strategy.value,
        max_scale_down_rate=scaling.max_scale_down_rate,
        schedules=[
            deployment_pb2.ScalingSchedule(
                cron=one.cron,
                time_zone="" if one.time_zone == DEFAULT_ZONE else one.time_zone,
                duration_seconds=one.seconds,
                min_replicas=one.min_replicas,
            )
            for one in scaling.schedules
        ],
        paused=scaling.paused,
        warm_spares=scaling.warm_spares,
    )


def scaling_from_proto(message: deployment_pb2.Scaling) -> Scaling:
    """Return a deployment's scaling; ValueError names what is out of range."""
    return Scaling(
        min_replicas=message.min_replicas,
        max_replicas=message.max_replicas,
        window_seconds=message.window_seconds,
        scale_down_delay_seconds=(
            message.scale_down_delay_seconds
            if message.HasField("scale_down_delay_seconds")
            else None
        ),
        concurrency_target=message.concurrency_target,
        target_utilization=message.target_utilization,
        strategy=Strategy(message.strategy or Strategy.TOKEN_WORK),
        max_scale_down_rate=(
            message.max_scale_down_rate if message.HasField("max_scale_down_rate") else None
        ),
        schedules=tuple(
            FloorSchedule(
                cron=one.cron,
                seconds=one.duration_seconds,
                min_replicas=one.min_replicas,
                time_zone=one.time_zone or DEFAULT_ZONE,
            )
            for one in message.schedules
        ),
        paused=message.paused,
        warm_spares=message.warm_spares,
    )


def terms_to_proto(terms: ScalingTerms | None) -> plane_service_pb2.ScalingTerms | None:
    """Return the message of what a plane is told for its scaling."""
    return None if terms is None else plane_service_pb2.ScalingTerms(**asdict(terms))


def terms_from_proto(message: plane_service_pb2.ScalingTerms) -> ScalingTerms:
    """Return what a plane is told for its scaling; ValueError names what is out of range."""
    return ScalingTerms(
        fleet_target=message.fleet_target,
        cold_start_seconds=message.cold_start_seconds,
        warm_spares=message.warm_spares,
    )


def loads_to_proto(
    report: LoadReport, decisions: Sequence[tuple[str, ToldDecision]] = ()
) -> plane_service_pb2.LoadReport:
    """Return the message of a plane's loads, the first 1,024 of them.

    Beside them the first 64 of the plane's own decisions by deployment, in their order.
    """
    return plane_service_pb2.LoadReport(
        loads=[_load_to_proto(one) for one in report.loads[:LOADS_MAX]],
        decisions=[
            plane_service_pb2.PlaneDecision(deployment=name, decision=decision_to_proto(one))
            for name, one in decisions[:DECISIONS_TOLD_MAX]
        ],
        spent=[
            plane_service_pb2.KeySpent(key=one.key, period=one.period, tokens=one.tokens)
            for one in report.spent[:KEYS_TOLD_MAX]
        ],
    )


def loads_from_proto(message: plane_service_pb2.LoadReport, heard_at: float) -> LoadReport:
    """Return a plane's loads, their readings as of the moment they were heard.

    A reading, decision or coefficient that cannot be is left out; so is a deployment told twice.
    """
    found: dict[str, DeploymentLoad] = {}
    for one in message.loads[:LOADS_MAX]:
        found.setdefault(one.deployment, load_from_proto(one, heard_at))
    return LoadReport(loads=tuple(found.values()))


def readings_from_proto(message: plane_service_pb2.LoadReport, heard_at: float) -> LoadReport:
    """Return a plane's readings alone, of the deployments that it could count."""
    found: dict[str, DeploymentLoad] = {}
    for one in message.loads[:LOADS_MAX]:
        if one.deployment not in found and one.HasField("reading"):
            reading = reading_from_proto(one.reading, heard_at)
            found[one.deployment] = DeploymentLoad(deployment=one.deployment, reading=reading)
    return LoadReport(loads=tuple(found.values()))


def decision_to_proto(decision: ToldDecision) -> scaling_pb2.ScalingDecision:
    """Return the message of a plane's decision."""
    need = decision.need
    return scaling_pb2.ScalingDecision(
        decide_time=decision.decided_at,
        sentence=decision.sentence,
        because=decision.because,
        granted=decision.granted,
        need=need_to_proto(need) if need is not None else None,
        highest=decision.highest,
        concurrency=decision.concurrency,
        fallback=decision.fallback,
        **{name: getattr(decision, name) for name in _COUNTS},
    )


def decision_from_proto(message: scaling_pb2.ScalingDecision) -> ToldDecision:
    """Return a plane's decision, cut to what people read; nonsense numbers are nought."""
    concurrency = message.concurrency if message.HasField("concurrency") else None
    return ToldDecision(
        decided_at=_moment(message),
        sentence=_printable(message.sentence)[:SENTENCE_CHARACTERS_MAX],
        because=_printable(message.because)[:BECAUSE_CHARACTERS_MAX],
        granted=max(0, message.granted) if message.HasField("granted") else None,
        need=need_from_proto(message.need) if message.HasField("need") else None,
        highest=max(0, message.highest) if message.HasField("highest") else None,
        concurrency=None if concurrency is None else _number(concurrency),
        fallback=message.fallback,
        **{name: max(0, getattr(message, name)) for name in _COUNTS},
    )


def reading_to_proto(reading: LoadReading) -> scaling_pb2.LoadReading:
    """Return the message of what was counted."""
    return scaling_pb2.LoadReading(**{name: getattr(reading, name) for name in _READING_FIELDS})


def reading_from_proto(message: scaling_pb2.LoadReading, heard_at: float) -> LoadReading | None:
    """Return what was counted, as of a moment; None for what cannot be."""
    told = _reading_values(message)
    if max(told) > COUNT_MAX:  # what is no number is refused below
        return None
    try:
        return LoadReading(at=heard_at, **dict(zip(_READING_FIELDS, told, strict=True)))
    except ValueError:
        return None  # as if it had not been counted: that takes nothing away


def need_to_proto(need: Need) -> scaling_pb2.ScalingNeed:
    """Return the message of a need."""
    return scaling_pb2.ScalingNeed(**asdict(need))


def need_from_proto(message: scaling_pb2.ScalingNeed) -> Need:
    """Return a need, its nonsense numbers nought."""
    told = {name: _number(getattr(message, name)) for name in _NEED_FIELDS}
    return Need(replicas=max(0, message.replicas), spares=max(0, message.spares), **told)


def answers_to_proto(answers: RecentAnswers) -> scaling_pb2.RecentAnswers:
    """Return the message of how answers went."""
    return scaling_pb2.RecentAnswers(**asdict(answers))


def answers_from_proto(message: scaling_pb2.RecentAnswers) -> RecentAnswers | None:
    """Return how answers went; None for what cannot be, and for counts by other bounds."""
    told = {name: tuple(getattr(message, name)) for name in ("first_tokens", "intervals")}
    if max((message.judged, message.good, *told["first_tokens"], *told["intervals"])) > COUNT_MAX:
        return None
    try:
        return RecentAnswers(
            seconds=min(message.seconds, WINDOW_SECONDS),
            judged=message.judged,
            good=message.good,
            **told,
        )
    except ValueError:
        return None


def _load_to_proto(load: DeploymentLoad) -> plane_service_pb2.DeploymentLoad:
    reading = load.reading
    return plane_service_pb2.DeploymentLoad(
        deployment=load.deployment,
        reading=reading_to_proto(reading) if reading is not None else None,
        decision=decision_to_proto(load.decision) if load.decision is not None else None,
        coefficients=[
            plane_service_pb2.Coefficients(**asdict(one))
            for one in load.coefficients[:COEFFICIENTS_MAX]
        ],
        answers=answers_to_proto(load.answers) if load.answers is not None else None,
    )


def load_from_proto(message: plane_service_pb2.DeploymentLoad, heard_at: float) -> DeploymentLoad:
    """Return what a plane told of a deployment, as far as it can be."""
    coefficients = (_coefficients(one) for one in message.coefficients[:COEFFICIENTS_MAX])
    return DeploymentLoad(
        deployment=message.deployment,
        reading=reading_from_proto(message.reading, heard_at)
        if message.HasField("reading")
        else None,
        decision=decision_from_proto(message.decision) if message.HasField("decision") else None,
        coefficients=tuple(one for one in coefficients if one is not None),
        answers=answers_from_proto(message.answers) if message.HasField("answers") else None,
    )


# What no plane can have counted, and sums of which no longer grow by one.
COUNT_MAX = 2.0**53


def _coefficients(message: plane_service_pb2.Coefficients) -> Coefficients | None:
    kind = message.accelerator
    if not 0 < len(kind) <= ACCELERATOR_CHARACTERS_MAX or not kind.isprintable():
        return None
    try:
        return Coefficients(**{name: getattr(message, name) for name in COEFFICIENT_FIELDS})
    except ValueError:
        return None


def _moment(message: scaling_pb2.ScalingDecision) -> datetime | None:
    if not message.HasField("decide_time"):
        return None
    try:
        return message.decide_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _number(told: float) -> float:
    return told if math.isfinite(told) and told >= 0.0 else 0.0


def _printable(text: str) -> str:
    if text.isprintable():  # as nearly all are
        return text
    return "".join(char if char.isprintable() else "?" for char in text)
