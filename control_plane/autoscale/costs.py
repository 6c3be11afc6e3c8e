"""What tokens cost engines, of what planes measured and of profiles. State and no decision, no I/O.

The global loop asks it round by round: a profile holds until a plane of that kind has measured
enough, and what was measured stays while the plane that did is silent or begins anew.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import Deployment

# Of a profile: no engine is so much faster or slower than it was measured. A plane bounds what it
# learns by as much; here its word alone must not.
PROFILE_FACTOR_MAX = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostKind:
    """What costs are learned of."""

    base_model: str
    engine: str
    accelerator: str


class LearnedCosts:
    """The mean of what planes measured of each kind when any of them told it last."""

    def __init__(self) -> None:
        """Begin with nothing learned: profiles hold."""
        self._known: dict[CostKind, Coefficients] = {}
        self._told: dict[CostKind, list[Coefficients]] = {}
        self._asked: set[CostKind] = set()

    def of(
        self,
        deployment: Deployment,
        accelerator: str,
        *,
        own: Coefficients | None,
        profile: Coefficients | None,
    ) -> Coefficients | None:
        """Return what a plane's replicas cost: what it measured, what others did, the profile's.

        None where nobody told. A kind that no profile tells is each plane's own affair.
        """
        if profile is None:
            return own
        revision = deployment.revision
        kind = CostKind(
            base_model=revision.base_model.uri,
            engine=revision.engine.name.value,
            accelerator=accelerator,
        )
        self._asked.add(kind)
        if own is not None:
            self._told.setdefault(kind, []).append(own)
        learned = own or self._known.get(kind)
        return profile if learned is None else bounded(learned, profile)

    def turn(self) -> None:
        """End a round: what was told in it holds until somebody tells it again."""
        self._known |= {kind: _mean(told) for kind, told in self._told.items()}
        for gone in self._known.keys() - self._asked:
            del self._known[gone]
        self._told, self._asked = {}, set()


def bounded(learned: Coefficients, profile: Coefficients) -> Coefficients:
    """Return what was learned, each cost within so many times the profile's where that has one."""

    def near(name: str) -> float:
        cost, was = getattr(learned, name), getattr(profile, name)
        if was <= 0.0:
            return float(cost)
        return float(min(max(cost, was / PROFILE_FACTOR_MAX), was * PROFILE_FACTOR_MAX))

    return Coefficients(
        accelerator=profile.accelerator,
        prefill_seconds_per_token=near("prefill_seconds_per_token"),
        decode_seconds_per_token=near("decode_seconds_per_token"),
        iteration_seconds=near("iteration_seconds"),
    )


def _mean(told: Sequence[Coefficients]) -> Coefficients:
    def mean(name: str) -> float:
        return math.fsum(getattr(one, name) for one in told) / len(told)

    return Coefficients(
        accelerator=told[0].accelerator,
        prefill_seconds_per_token=mean("prefill_seconds_per_token"),
        decode_seconds_per_token=mean("decode_seconds_per_token"),
        iteration_seconds=mean("iteration_seconds"),
    )
