"""What planes' own loops decided lately, as they told it: in memory only, values when asked for.

`service.py` fills it from every load report, the API reads it. A plane keeps its last decisions
itself and tells them again when it connects: a control plane that begins anew has them soon.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter

from skerry.api.common.v1 import scaling_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.wire.scaling import DECISIONS_TOLD_MAX, decision_from_proto

# Of one deployment in one plane: an hour while nothing changes, as the plane keeps them.
OF_PAIR_MAX, OF_PAIR_MIN = 60, 2
# Of all together: 30 MB at 600 bytes of message, as planes write them, and 180 MB at the most that
# is taken. 5,000 planes with two deployments keep four each.
DECISIONS_MAX = 40_000
PAIRS_MAX = DECISIONS_MAX // OF_PAIR_MIN  # of what comes beyond them nothing is kept
OF_PLANE_MAX = 1_024  # pairs: as many deployments as a plane tells loads of
SWEEP_SECONDS = 60.0  # between looks for what is old: each goes through all
AGE_SECONDS_MAX = 21_600.0  # since they were heard
DECISION_BYTES_MAX = 4_096  # what is longer no plane of ours wrote
NAME_CHARACTERS_MAX = 256

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """A decision as its message, when it was heard, and when the plane says that it made it."""

    at: float
    decided: int  # nanoseconds since 1970
    message: bytes


class PlaneDecisions:
    """The last decisions by deployment and plane, also of planes that are not heard any more."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[str, dict[str, list[_Heard]]] = {}  # in the order they were heard
        self._of_plane: Counter[str] = Counter()
        self._pairs = self._count = 0
        self._swept_at = -math.inf
        self.sweeps = 0  # how often all were gone through

    def take(self, plane: str, told: Iterable[plane_service_pb2.PlaneDecision], now: float) -> None:
        """Keep what a plane told; what it tells again is there already."""
        if now - self._swept_at >= SWEEP_SECONDS:
            self._sweep(now)
        for one in list(told)[:DECISIONS_TOLD_MAX]:
            if 0 < len(one.deployment) <= NAME_CHARACTERS_MAX:
                self._take(plane, one.deployment, one.decision, now)

    def planes(self, deployment: str, now: float) -> tuple[str, ...]:
        """Return the planes that told decisions of a deployment lately, by name."""
        kept = self._kept.get(deployment, {})
        return tuple(sorted(p for p, one in kept.items() if one and not _is_old(one[-1], now)))

    def of(
        self, deployment: str, plane: str, now: float, most: int = OF_PAIR_MAX
    ) -> tuple[ToldDecision, ...]:
        """Return a plane's last decisions of a deployment, the newest first."""
        kept = self._kept.get(deployment, {}).get(plane, ())
        found = [
            decision_from_proto(scaling_pb2.ScalingDecision.FromString(one.message))
            for one in kept
            if not _is_old(one, now)
        ]
        # What was told late, after a gap, came in after younger ones.
        found.sort(key=lambda one: one.decided_at or _NEVER)
        return tuple(reversed(found))[:most]

    def _take(
        self, plane: str, deployment: str, decision: scaling_pb2.ScalingDecision, now: float
    ) -> None:
        message = decision.SerializeToString()
        if len(message) > DECISION_BYTES_MAX:
            return
        kept = self._kept.get(deployment, {}).get(plane)
        if kept is None:
            if self._pairs >= PAIRS_MAX or self._of_plane[plane] >= OF_PLANE_MAX:
                return
            kept = self._kept.setdefault(deployment, {}).setdefault(plane, [])
            self._pairs += 1
            self._of_plane[plane] += 1
        if any(message == known.message for known in kept):
            return
        decided = decision.decide_time.seconds * 10**9 + decision.decide_time.nanos
        kept.append(_Heard(at=now, decided=decided, message=message))
        self._count += 1
        self._trim(kept, now)
        # Rare: all of each are fewer than this until so many pairs came that each keeps one less.
        if self._count > DECISIONS_MAX:
            self._sweep(now)

    @property
    def _most(self) -> int:
        """Return how many of each there is room for now."""
        return min(OF_PAIR_MAX, DECISIONS_MAX // max(1, self._pairs))

    def _trim(self, kept: list[_Heard], now: float) -> None:
        before = len(kept)
        while kept and _is_old(kept[0], now):
            del kept[0]
        while len(kept) > self._most:
            kept.remove(min(kept, key=attrgetter("decided")))
        self._count -= before - len(kept)

    def _sweep(self, now: float) -> None:
        """Keep of each as many as there is room for by now, and forget what is old."""
        self._swept_at = now
        self.sweeps += 1
        most, since = self._most, now - AGE_SECONDS_MAX
        for deployment, planes in list(self._kept.items()):
            for plane, kept in list(planes.items()):
                if len(kept) <= most and kept[0].at >= since:
                    continue
                self._trim(kept, now)
                if not kept:
                    del planes[plane]
                    self._forget(plane)
            if not planes:
                del self._kept[deployment]

    def _forget(self, plane: str) -> None:
        """Count a pair of a plane less."""
        self._pairs -= 1
        self._of_plane[plane] -= 1
        if not self._of_plane[plane]:
            del self._of_plane[plane]


def _is_old(one: _Heard, now: float) -> bool:
    return now - one.at > AGE_SECONDS_MAX
