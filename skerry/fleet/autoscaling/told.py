"""What a plane tells of its scaling, and what it is told for it: bounded values of the link. Pure.

The agent makes a `LoadReport` of its readings and last decisions; the control plane keeps the
newest of every plane. `ScalingTerms` come with the desired state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.decision import ScalingDecision
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.scaling import REPLICAS_MAX
from skerry.fleet.token_budget import KeySpent

LOADS_MAX = 1_024  # deployments of one plane; the rest is not told
COEFFICIENTS_MAX = 16  # kinds of accelerator of one plane
SENTENCE_CHARACTERS_MAX = 1_000
COLD_START_SECONDS_MAX = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingTerms:
    """What a plane needs to scale a deployment by itself, beside its factors and envelopes.

    `fleet_target`: the envelopes' targets are the global loop's, to be followed while the control
    plane is heard. `cold_start_seconds` 0: not known. `warm_spares` is the plane's share.
    """

    fleet_target: bool = False
    cold_start_seconds: float = 0.0
    warm_spares: int = 0

    def __post_init__(self) -> None:
        """Refuse what nobody can have measured."""
        if not (
            math.isfinite(self.cold_start_seconds)
            and 0.0 <= self.cold_start_seconds <= COLD_START_SECONDS_MAX
        ):
            raise ValueError(f"cold_start_seconds must be 0..{COLD_START_SECONDS_MAX:g}")
        if not 0 <= self.warm_spares <= REPLICAS_MAX:
            raise ValueError(f"warm_spares must be 0..{REPLICAS_MAX}, not {self.warm_spares}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldDecision:
    """A plane's decision as it is told and shown: its sentence, and everything it rests on.

    `because` is a text: a newer plane may have reasons that are not known here.
    """

    decided_at: datetime | None
    sentence: str
    because: str
    target: int
    ready: int
    starting: int
    draining: int
    floor: int
    ceiling: int
    granted: int | None = None
    scheduled: int = 0
    min_available: int = 0
    need: Need | None = None
    highest: int | None = None
    concurrency: float | None = None
    fallback: bool = False


def told(decision: ScalingDecision, decided_at: datetime) -> ToldDecision:
    """Return a decision as it is told; `decided_at` is its moment by the clock of the wall."""
    counts, bounds = decision.counts, decision.bounds
    return ToldDecision(
        decided_at=decided_at,
        sentence=decision.describe()[:SENTENCE_CHARACTERS_MAX],
        because=decision.because.value,
        target=decision.target,
        ready=counts.ready,
        starting=counts.starting,
        draining=counts.draining,
        floor=bounds.floor,
        ceiling=bounds.ceiling,
        granted=bounds.target,
        scheduled=bounds.scheduled,
        min_available=bounds.min_available,
        need=decision.need,
        highest=decision.highest,
        concurrency=decision.concurrency,
        fallback=decision.fallback,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentLoad:
    """What a plane counted of a deployment and last decided; None where it could not, or did not.

    `reading.at` means nothing to anybody else: whoever hears it takes it as of that moment.
    `coefficients` are what it measured by itself, of kinds that no profile tells. `answers` are of
    the last minutes, None where there was none; of a deployment that does not scale they are all.
    """

    deployment: str
    reading: LoadReading | None = None
    decision: ToldDecision | None = None
    coefficients: tuple[Coefficients, ...] = ()
    answers: RecentAnswers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The loads of one plane at one time, of each deployment once, and what API keys used."""

    loads: tuple[DeploymentLoad, ...] = ()
    spent: tuple[KeySpent, ...] = ()
    _of: Mapping[str, DeploymentLoad] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index what is found by name: a thousand of them are asked for one by one."""
        object.__setattr__(self, "_of", {one.deployment: one for one in self.loads})

    def of(self, deployment: str) -> DeploymentLoad | None:
        """Return what is told of a deployment."""
        return self._of.get(deployment)

    def answers(self, deployment: str) -> RecentAnswers | None:
        """Return how answers of a deployment went, None where that was not told."""
        found = self.of(deployment)
        return None if found is None else found.answers

    def readings(self) -> "LoadReport":
        """Return what was counted, which is all of this."""
        return self
