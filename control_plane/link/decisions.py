"""What planes' own loops decided lately, as they told it: in memory only, values when asked for.

`service.py` fills it from every load report, the API reads it. A plane keeps its last decisions
itself and tells them again when it connects: a control plane that begins anew has them soon.
"""

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime

from skerry.api.common.v1 import scaling_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.wire.scaling import DECISIONS_TOLD_MAX, decision_from_proto

# Of one deployment in one plane: an hour while nothing changes, as the plane keeps them.
OF_PAIR_MAX, OF_PAIR_MIN = 60, 2
# Of all together, at some 600 bytes each: 25 MB. 5,000 planes with two deployments keep four each.
DECISIONS_MAX = 40_000
PAIRS_MAX = DECISIONS_MAX // OF_PAIR_MIN  # of what comes beyond them nothing is kept
AGE_SECONDS_MAX = 21_600.0  # since they were heard
DECISION_BYTES_MAX = 4_096  # what is longer no plane of ours wrote
NAME_CHARACTERS_MAX = 256

_NEVER = datetime.min.replace(tzinfo=UTC)
_Kept = deque[tuple[float, bytes]]  # when it was heard, and the message


class PlaneDecisions:
    """The last decisions by deployment and plane, also of planes that are not heard any more."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._pairs = self._count = 0

    def take(self, plane: str, told: Iterable[plane_service_pb2.PlaneDecision], now: float) -> None:
        """Keep what a plane told; what it tells again is there already."""
        for one in list(told)[:DECISIONS_TOLD_MAX]:
            if 0 < len(one.deployment) <= NAME_CHARACTERS_MAX:
                self._take(plane, one.deployment, one.decision.SerializeToString(), now)

    def planes(self, deployment: str, now: float) -> tuple[str, ...]:
        """Return the planes that told decisions of a deployment lately, by name."""
        kept = self._kept.get(deployment, {})
        return tuple(sorted(p for p, one in kept.items() if now - one[-1][0] <= AGE_SECONDS_MAX))

    def of(
        self, deployment: str, plane: str, now: float, most: int = OF_PAIR_MAX
    ) -> tuple[ToldDecision, ...]:
        """Return a plane's last decisions of a deployment, the newest first."""
        kept = self._kept.get(deployment, {}).get(plane, ())
        found = [
            decision_from_proto(scaling_pb2.ScalingDecision.FromString(message))
            for at, message in kept
            if now - at <= AGE_SECONDS_MAX
        ]
        # What was told late, after a gap, came in after younger ones.
        found.sort(key=lambda one: one.decided_at or _NEVER)
        return tuple(reversed(found))[:most]

    def _take(self, plane: str, deployment: str, message: bytes, now: float) -> None:
        if len(message) > DECISION_BYTES_MAX:
            return
        kept = self._kept.get(deployment, {}).get(plane)
        if kept is None:
            if self._pairs >= PAIRS_MAX:
                self._forget(now)
            if self._pairs >= PAIRS_MAX:
                return
            kept = self._kept.setdefault(deployment, {}).setdefault(plane, deque())
            self._pairs += 1
        if any(message == known for _, known in kept):
            return
        kept.append((now, message))
        self._count += 1
        self._trim(kept, now)
        if self._count > DECISIONS_MAX:
            self._forget(now)

    def _trim(self, kept: _Kept, now: float) -> None:
        most = min(OF_PAIR_MAX, DECISIONS_MAX // max(1, self._pairs))
        while kept and (len(kept) > most or now - kept[0][0] > AGE_SECONDS_MAX):
            kept.popleft()
            self._count -= 1

    def _forget(self, now: float) -> None:
        """Keep of each as many as there is room for by now; rare, for it goes through all."""
        for deployment, planes in list(self._kept.items()):
            for plane, kept in list(planes.items()):
                self._trim(kept, now)
                if not kept:
                    del planes[plane]
                    self._pairs -= 1
            if not planes:
                del self._kept[deployment]
