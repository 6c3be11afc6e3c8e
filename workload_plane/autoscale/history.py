"""The last decisions of this plane's own loop, kept until a control plane can hear them. PURE.

`loop.py` notes each; the link tells those that a connection was not told yet, so that what was
decided while nobody heard it is explained all the same.
"""

from collections import deque
from collections.abc import Set
from dataclasses import dataclass, replace

from skerry.fleet.autoscaling.told import ToldDecision

# Of one deployment: an hour of them while nothing changes.
OF_DEPLOYMENT_MAX, OF_DEPLOYMENT_MIN = 60, 4
# Of all together, at some 1.5 kB each. A plane of hundreds of deployments keeps fewer of each.
DECISIONS_MAX = 4_096
# Six hours without a control plane are as much of the past as anybody asks for.
AGE_SECONDS_MAX = 21_600.0
# What goes on as before is noted once in so long, with the figures of that moment.
SAME_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDecision:
    """A decision with its number: they rise in the order of all that were noted.

    `at` is of the monotonic clock.
    """

    number: int
    at: float
    deployment: str
    decision: ToldDecision


class DecisionHistory:
    """The last decisions of each deployment that this plane scales."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[str, deque[KeptDecision]] = {}
        self._newest = 0

    def note(self, deployment: str, decision: ToldDecision, now: float) -> None:
        """Keep a decision that is another than the last, or that was long ago."""
        kept = self._kept.setdefault(deployment, deque())
        last = kept[-1] if kept else None
        if (
            last is not None
            and _is_same(last.decision, decision)
            and 0.0 <= now - last.at < SAME_SECONDS
        ):
            return
        self._newest += 1
        one = KeptDecision(number=self._newest, at=now, deployment=deployment, decision=decision)
        kept.append(one)
        most = max(OF_DEPLOYMENT_MIN, DECISIONS_MAX // len(self._kept))
        while len(kept) > min(most, OF_DEPLOYMENT_MAX) or now - kept[0].at > AGE_SECONDS_MAX:
            kept.popleft()

    def keep(self, deployments: Set[str]) -> None:
        """Forget all deployments but these."""
        for gone in self._kept.keys() - deployments:
            del self._kept[gone]

    def after(self, number: int) -> tuple[KeptDecision, ...]:
        """Return those that were noted after the one of that number, in their order."""
        if number >= self._newest:
            return ()
        found = (one for kept in self._kept.values() for one in kept if one.number > number)
        return tuple(sorted(found, key=lambda one: one.number))


def _is_same(before: ToldDecision, now: ToldDecision) -> bool:
    """Say whether a decision leaves all as the one before did: figures alone are no other one."""
    return before == replace(
        now,
        decided_at=before.decided_at,
        sentence=before.sentence,
        need=before.need,
        highest=before.highest,
        concurrency=before.concurrency,
    )
