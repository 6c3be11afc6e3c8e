"""Why a deployment has as many replicas as it has -> the operator API's messages.

`operator_service.py` calls it; what it says is decided in `control_plane.autoscale` and by planes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from control_plane.api.times import time_to_proto
from control_plane.autoscale.shares import Loads
from skerry.api.operator.v1 import scaling_pb2
from skerry.fleet.autoscaling.scaled import FleetRecord, Scaled
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.fleet.deployment import Deployment
from skerry.plumbing.errors import InvalidInput
from skerry.wire.scaling import decision_to_proto, need_to_proto, reading_to_proto

DECISIONS_DEFAULT = 120  # an hour of them
DECISIONS_MAX = 1_440
# What planes told last, of so many: each may be 4 kB, and all of an answer must fit in a message.
PLANES_MAX = 128
# Of the decisions together, in a message of 4 MiB; those of many planes are some 3 kB each.
DECISIONS_BYTES_MAX = 2_359_296
# And of what the planes' own loops decided, half a kilobyte each.
OWN_BYTES_MAX = 786_432


class Decided(Protocol):
    """What planes told of their loads and decisions; `ports.Live` is one."""

    def loads(self) -> Loads:
        """Return what planes counted last, of those that told it within a minute, by name."""
        ...

    def deciding(self, deployment: str) -> tuple[str, ...]:
        """Return the planes whose own loops told decisions of a deployment lately, by name."""
        ...

    def decided(self, deployment: str, plane: str, most: int) -> tuple[ToldDecision, ...]:
        """Return what a plane's own loop decided last, as far as it told, the newest first."""
        ...


def check_decisions(asked: int) -> int:
    """Return how many decisions are asked for; InvalidInput for more than are kept."""
    if not 0 <= asked <= DECISIONS_MAX:
        raise InvalidInput(f"decisions_max must be 0..{DECISIONS_MAX}", field="decisions_max")
    return asked or DECISIONS_DEFAULT


def scaling_to_proto(
    deployment: Deployment, records: Sequence[FleetRecord], live: Decided, most: int
) -> scaling_pb2.ScalingExplanation:
    """Return what there is to say of a deployment's scaling; records the newest first.

    Of each plane's own decisions there are `most`. It fits in a message: the oldest decisions are
    left out where all together are too long, and of very many planes those that the newest decision
    does not name.
    """
    scaling = deployment.scaling
    message = scaling_pb2.ScalingExplanation(
        deployment=deployment.name,
        sentence=records[0].sentence if records else _why_none(deployment),
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        strategy=scaling.strategy.value,
        paused=scaling.paused,
    )
    left = DECISIONS_BYTES_MAX
    for record in records:
        decision = _decision_to_proto(record)
        left -= decision.ByteSize()
        if left < 0:
            break
        message.decisions.append(decision)
    loads, own = live.loads(), {}
    deciding = live.deciding(deployment.name)
    for plane in _shown(records, loads, deciding):
        load = loads[plane].of(deployment.name) if plane in loads else None
        decisions = live.decided(deployment.name, plane, most)
        if load is not None or decisions:
            own[plane] = decisions
            last, reading = (load.decision, load.reading) if load is not None else (None, None)
            message.planes.add(
                plane=plane,
                decision=decision_to_proto(last) if last else None,
                reading=reading_to_proto(reading) if reading else None,
                costs=[
                    scaling_pb2.MeasuredCosts(**asdict(cost))
                    for cost in (load.coefficients if load is not None else ())
                ],
            )
    _add_own(message.planes, own)
    return message


def _add_own(
    planes: Iterable[scaling_pb2.PlaneScaling], own: Mapping[str, Sequence[ToldDecision]]
) -> None:
    """Add what planes decided by themselves: the newest of each, then the next of each."""
    left = OWN_BYTES_MAX
    for place in range(max(map(len, own.values()), default=0)):
        for message in planes:
            if place >= len(own[message.plane]):
                continue
            decision = decision_to_proto(own[message.plane][place])
            left -= decision.ByteSize()
            if left < 0:
                return
            message.decisions.append(decision)


def _shown(records: Sequence[FleetRecord], loads: Loads, deciding: Sequence[str]) -> Sequence[str]:
    """Return the planes whose last words are shown, by name; none are looked at to be chosen."""
    known = loads.keys() | set(deciding)
    if len(known) <= PLANES_MAX:
        return sorted(known)
    named = [share.plane for share in records[0].shares] if records else []
    order = (*named, *deciding, *sorted(loads))
    first = dict.fromkeys(plane for plane in order if plane in known)
    return sorted(list(first)[:PLANES_MAX])


def shortage_of(scaled: Scaled | None) -> tuple[int, float | None]:
    """Return how many replicas load asks for in vain, and what they would cost an hour."""
    return (0, None) if scaled is None else (scaled.unmet, scaled.unmet_dollars_per_hour)


def _why_none(deployment: Deployment) -> str:
    if not deployment.scaling.scales:
        many = deployment.scaling.min_replicas
        return f"min_replicas and max_replicas are both {many}: there is nothing to scale."
    return "The global loop has not decided yet; it does within a minute of the first placement."


def _decision_to_proto(record: FleetRecord) -> scaling_pb2.FleetScalingDecision:
    return scaling_pb2.FleetScalingDecision(
        decide_time=time_to_proto(record.decided_at),
        sentence=record.sentence,
        because=record.because,
        running=record.running,
        total=record.total,
        wanted=record.wanted,
        unmet=record.unmet,
        unmet_dollars_per_hour=record.unmet_dollars_per_hour,
        dollars_per_hour=record.dollars_per_hour,
        demand=record.demand,
        floor=record.floor,
        need=need_to_proto(record.need) if record.need is not None else None,
        highest=record.highest,
        unheard=record.unheard,
        shares=[
            scaling_pb2.ScalingShare(
                plane=share.plane,
                running=share.running,
                floor=share.floor,
                ceiling=share.ceiling,
                target=share.target,
                dollars_per_hour=share.price_per_hour,
                heard=share.heard,
            )
            for share in record.shares
        ],
    )
