"""What tokens cost an engine here, learned from its own times and the profile it came with. PURE.

One `Learner` for each base model, engine as it is configured, and the accelerators of a replica, as
profiles have it. What a profile says counts as so many looks at the engine; without one, nothing is
said before there were enough.
"""

import math
from collections.abc import Set
from dataclasses import dataclass

from skerry.fleet.coefficients import Coefficients
from skerry.fleet.profile import SECONDS_MAX
from workload_plane.autoscale.fitting import Row, Sums, fitted
from workload_plane.autoscale.growth import EngineGrowth

ROWS_KEPT = 480.0  # what looks are remembered for: twenty minutes of one replica
ROWS_MIN = 24.0  # of them before anything is said without a profile: a minute of one replica
PROFILE_ROWS = 24.0  # what a profile weighs
# Before what was learned goes to the fleet in a profile's place: it weighs four times as much then.
# Else every restart of an agent would take the fleet back to the profile, and forth again.
FLEET_ROWS_MIN = 4.0 * PROFILE_ROWS
# No engine is so much faster or slower than it was measured; a wrong look must not say so.
PROFILE_FACTOR_MAX = 4.0
_INTERVALS_MIN = 8.0  # tokens; fewer make no mean
_FIRST_TOKENS_MIN = 2.0
_SECONDS_MIN = 1e-6  # of an interval: nobody is faster


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """What costs are learned of.

    `configuration` is the digest of the engine's, `accelerators` are those of a replica.
    """

    base_model: str
    engine: str
    configuration: str
    accelerator: str
    accelerators: int


class Learner:
    """The looks at engines of one kind, and what they say together."""

    def __init__(self, accelerator: str) -> None:
        """Begin with nothing seen."""
        self._accelerator = accelerator
        self._sums = Sums()

    def learn(self, growth: EngineGrowth) -> None:
        """Take in what a replica did between two looks."""
        for row in rows_of(growth):
            if all(map(math.isfinite, row)):
                self._sums.add(row, kept=1.0 - 1.0 / ROWS_KEPT)

    @property
    def outweighs_profile(self) -> bool:
        """Say whether so much was seen that what it says is hardly the profile's any more."""
        return self._sums.count >= FLEET_ROWS_MIN

    def current(self, prior: Coefficients | None) -> Coefficients | None:
        """Return what tokens cost by the profile `prior` and all looks; None where none can say."""
        return fit(self._accelerator, self._sums, prior)


class Learners:
    """What is known of every kind of engine that runs here."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[EngineKind, Learner] = {}

    def of(self, kind: EngineKind) -> Learner:
        """Return what is known of a kind."""
        return self._known.setdefault(kind, Learner(kind.accelerator))

    def keep(self, kinds: Set[EngineKind]) -> None:
        """Forget kinds that nothing here is made of any more."""
        for gone in self._known.keys() - kinds:
            del self._known[gone]


def rows_of(growth: EngineGrowth) -> tuple[Row, ...]:
    """Return what a look says of the costs: rows by which they add up to 1.

    An iteration that makes a token for b requests and computes p tokens of prompts beside them
    takes `p * prefill + iteration + b * decode`: that is the time between two tokens. A first token
    takes its own prompt and an iteration, where nothing waited.
    """
    interval = growth.interval_seconds
    if interval is None or growth.token_intervals < _INTERVALS_MIN or interval < _SECONDS_MIN:
        return ()
    iterations = growth.seconds / interval
    decoding = growth.generated_tokens / iterations
    # Below one the engine had nothing to do for the rest of the time.
    busy = min(1.0, decoding)
    batch = max(1.0, decoding)
    beside = growth.prompt_tokens / iterations / busy if busy > 0.0 else 0.0
    rows = [(beside / interval, 1.0 / interval, batch / interval)]
    if growth.first_tokens >= _FIRST_TOKENS_MIN and not growth.was_queued:
        first = growth.first_token_seconds / growth.first_tokens
        prompt = growth.prompt_tokens / growth.first_tokens
        if first > _SECONDS_MIN and prompt > 0.0:
            rows.append((prompt / first, 1.0 / first, batch / first))
    return tuple(rows)


def fit(accelerator: str, looks: Sums, prior: Coefficients | None) -> Coefficients | None:
    """Return the costs that come nearest to all looks and to what the profile says."""
    if prior is None and looks.count < ROWS_MIN:
        return None
    if prior is not None and not looks.count:
        return prior
    known, sums = _costs(prior), looks.copy()
    for place, cost in enumerate(known):
        if cost > 0.0:
            sums.add(_unit(place, 1.0 / cost), PROFILE_ROWS)
    found = fitted(sums)
    if not any(found):
        return prior
    bounded = [
        min(max(cost, was / PROFILE_FACTOR_MAX), was * PROFILE_FACTOR_MAX) if was > 0.0 else cost
        for cost, was in zip(found, known, strict=True)
    ]
    prefill, iteration, decode = (min(cost, SECONDS_MAX) for cost in bounded)
    return Coefficients(
        accelerator=accelerator,
        prefill_seconds_per_token=prefill,
        decode_seconds_per_token=decode,
        iteration_seconds=iteration,
    )


def _unit(place: int, value: float) -> Row:
    return tuple(value if i == place else 0.0 for i in range(3))  # type: ignore[return-value]


def _costs(known: Coefficients | None) -> Row:
    if known is None:
        return (0.0, 0.0, 0.0)
    return (
        known.prefill_seconds_per_token,
        known.iteration_seconds,
        known.decode_seconds_per_token,
    )
