"""What a request's tokens cost a replica in seconds, from its profile: the autoscaler's numbers.

The control plane sends them to planes with their desired state, so that a plane scales by them
with nobody to ask. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul

from skerry.fleet.deployment import Revision
from skerry.fleet.profile import SECONDS_MAX, Profile, Profiles, ProfileStep, profile_key

SECONDS_MIN = 1e-9  # of a first token: no engine is faster
FITS_MAX = 16_384  # remembered: every turn of the control plane asks for all that it has
SAME_COLUMN = 1e-9  # of 1: what is left of a column that the others say, but for rounding
SAME_ERROR = 1e-12
Row = tuple[float, float, float]  # of a prompt's token, an iteration, an answer's token


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """The seconds that tokens take of one replica on a kind of accelerator.

    An iteration with a batch of b takes `iteration_seconds + b * decode_seconds_per_token` and
    makes b tokens.
    """

    accelerator: str
    prefill_seconds_per_token: float
    decode_seconds_per_token: float
    iteration_seconds: float

    def __post_init__(self) -> None:
        """Refuse what nobody can have measured."""
        for name in ("prefill_seconds_per_token", "decode_seconds_per_token", "iteration_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= SECONDS_MAX):
                raise ValueError(f"{name} must be 0..{SECONDS_MAX:g}, not {value}")

    def work_seconds(self, prompt_tokens: float, output_tokens: float, batch: float) -> float:
        """Return how long a replica that decodes so many at once is busy with these tokens."""
        assert batch > 0.0, "an iteration is of one request at least"
        of_output = self.decode_seconds_per_token + self.iteration_seconds / batch
        return prompt_tokens * self.prefill_seconds_per_token + output_tokens * of_output


def coefficients_of(revision: Revision, profiles: Profiles) -> tuple[Coefficients, ...]:
    """Return what was measured of a revision, shape by shape; without those that were not."""
    measured = (profiles.get(profile_key(revision, shape)) for shape in revision.shapes)
    fitted = (fit(profile) for profile in measured if profile is not None)
    return tuple(one for one in fitted if one is not None)


@lru_cache(maxsize=FITS_MAX)
def fit(profile: Profile) -> Coefficients | None:
    """Return the coefficients that a profile tells, None where it does not know its requests.

    Those with the least sum of squared relative errors in what each concurrency says of the seconds
    that a request takes, and the smallest one of its first token. Times between tokens tell less:
    engines send several at once.
    """
    prompt, output = float(profile.prompt_tokens), float(profile.output_tokens)
    if not prompt or not output:
        return None
    # A row is what the three coefficients are multiplied by, to make 1.
    rows: list[Row] = []
    for step in profile.steps:
        seconds = output / step.output_tokens_per_second  # of the replica, for a request
        rows.append((prompt / seconds, output / _batch(step, output) / seconds, output / seconds))
    first = profile.steps[0]
    if first.ttft_p50_seconds >= SECONDS_MIN:
        # Whose first token waits least for other requests: prompt, then one iteration.
        ttft = first.ttft_p50_seconds
        rows.append((prompt / ttft, 1.0 / ttft, _batch(first, output) / ttft))
    prefill, iteration, decode = (min(one, SECONDS_MAX) for one in _least_squares(rows))
    return Coefficients(
        accelerator=profile.accelerator,
        prefill_seconds_per_token=prefill,
        decode_seconds_per_token=decode,
        iteration_seconds=iteration,
    )


def _batch(step: ProfileStep, output_tokens: float) -> float:
    """Return how many requests decode at once: all that have their first token (Little's law)."""
    seconds = step.concurrency * output_tokens / step.output_tokens_per_second
    decoding = step.concurrency * (1.0 - step.ttft_p50_seconds / seconds)
    return min(max(1.0, decoding), float(step.concurrency))


def _least_squares(rows: Sequence[Row]) -> Row:
    """Return the numbers, none below 0, by which the rows' sums come nearest to 1.

    Where several do equally, those with the most zeros: what cannot be told from the tokens is the
    iteration's.
    """
    # The least of all that may be is the least of some of the columns, the others left at 0.
    best, least = (0.0, 0.0, 0.0), math.inf
    for columns in ((1,), (0,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        found = _solve(rows, columns)
        if found is None or min(found) < 0.0:
            continue
        error = math.fsum((sum(map(mul, row, found)) - 1.0) ** 2 for row in rows)
        if error < least - SAME_ERROR:
            best, least = found, error
    return best


def _solve(rows: Sequence[Row], columns: Sequence[int]) -> Row | None:
    """Return the least squares of some columns; None where they are too much alike to tell."""
    sizes = [math.sqrt(math.fsum(row[column] ** 2 for row in rows)) for column in columns]
    scaled = [[row[c] / size for c, size in zip(columns, sizes, strict=True)] for row in rows]
    count = len(columns)
    # Normal equations with the right side beside them.
    table = [
        [math.fsum(row[i] * row[j] for row in scaled) for j in range(count)]
        + [math.fsum(row[i] for row in scaled)]
        for i in range(count)
    ]
    for pivot in range(count):  # positive definite: no rows need be exchanged
        if table[pivot][pivot] < SAME_COLUMN:
            return None
        table[pivot] = [value / table[pivot][pivot] for value in table[pivot]]
        for i in range(count):
            if i != pivot:
                factor = table[i][pivot]
                table[i] = [a - factor * b for a, b in zip(table[i], table[pivot], strict=True)]
    found = [0.0, 0.0, 0.0]
    for column, size, solved in zip(columns, sizes, table, strict=True):
        found[column] = solved[-1] / size
    return found[0], found[1], found[2]
