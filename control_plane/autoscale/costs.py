"""What tokens cost engines, of what planes measured and of profiles. State and no decision, no I/O.

The global loop asks it round by round: a profile holds until a plane of that kind has measured
enough, and what was measured stays while the plane that did is silent or begins anew.
"""

from collections.abc import Sequence
from statistics import median

from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import Deployment
from skerry.fleet.profile import ProfileKey, profile_key

# Of a profile: no engine is so much faster or slower than it was measured. A plane bounds what it
# learns by as much; here its word alone must not.
PROFILE_FACTOR_MAX = 4.0


class LearnedCosts:
    """The median of what planes measured of each kind when any of them told it last.

    A kind is what a profile is of: another configuration of an engine costs something else.
    """

    def __init__(self) -> None:
        """Begin with nothing learned: profiles hold."""
        self._known: dict[ProfileKey, Coefficients] = {}
        self._told: dict[ProfileKey, list[Coefficients]] = {}
        self._asked: set[ProfileKey] = set()

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
        shape = deployment.revision.shape_on(accelerator)
        if shape is None:
            return profile if own is None else bounded(own, profile)
        kind = profile_key(deployment.revision, shape)
        self._asked.add(kind)
        if own is not None:
            # One plane's word must not count for more than the bound, whatever it says.
            own = bounded(own, profile)
            self._told.setdefault(kind, []).append(own)
        learned = own or self._known.get(kind)
        return profile if learned is None else bounded(learned, profile)

    def turn(self) -> None:
        """End a round: what was told in it holds until somebody tells it again."""
        self._known |= {kind: _median(told) for kind, told in self._told.items()}
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


def _median(told: Sequence[Coefficients]) -> Coefficients:
    def middle(name: str) -> float:
        return float(median(getattr(one, name) for one in told))

    return Coefficients(
        accelerator=told[0].accelerator,
        prefill_seconds_per_token=middle("prefill_seconds_per_token"),
        decode_seconds_per_token=middle("decode_seconds_per_token"),
        iteration_seconds=middle("iteration_seconds"),
    )
