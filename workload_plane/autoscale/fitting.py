"""Least squares of three costs, none below 0, from sums that looks are added to. PURE.

A look is a row of what each cost is multiplied by to make 1. Only sums are kept, and older looks
fade out of them: fitting takes the same few steps after a day as after a minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

Row = tuple[float, float, float]  # of a prompt's token, an iteration, an answer's token

SINGULAR = 1e-9  # of 1: what is left of a column that the others say, but for rounding
SAME_ERROR = 1e-9  # of all rows: smaller gains are rounding
# Those with the most zeros first: what cannot be told from tokens is the iteration's.
_COLUMNS = ((1,), (0,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))


@dataclass(slots=True)
class Sums:
    """Rows added up: their products, themselves, and how many they are worth."""

    products: list[list[float]] = field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    rows: list[float] = field(default_factory=lambda: [0.0] * 3)
    count: float = 0.0

    def add(self, row: Row, weight: float = 1.0, kept: float = 1.0) -> None:
        """Add a row, of all before it only the part that is `kept`."""
        self.count = self.count * kept + weight
        for i in range(3):
            self.rows[i] = self.rows[i] * kept + weight * row[i]
            for j in range(3):
                self.products[i][j] = self.products[i][j] * kept + weight * row[i] * row[j]

    def copy(self) -> "Sums":
        """Return the same sums, to add others to."""
        return Sums([list(line) for line in self.products], list(self.rows), self.count)


def fitted(sums: Sums) -> Row:
    """Return the costs by which the rows come nearest to 1; all 0 where there are none."""
    best, least = (0.0, 0.0, 0.0), sums.count
    for columns in _COLUMNS:
        found = _solved(sums, columns)
        if found is None or min(found) < 0.0:
            continue
        error = sums.count + sum(
            found[i] * (sum(sums.products[i][j] * found[j] for j in range(3)) - 2.0 * sums.rows[i])
            for i in range(3)
        )
        if error < least - SAME_ERROR * sums.count:
            best, least = found, error
    return best


def _solved(sums: Sums, columns: Sequence[int]) -> Row | None:
    """Return the costs of some columns, the others 0; None where they can't be told apart."""
    if not all(sums.products[i][i] > 0.0 for i in columns):
        return None
    sizes = [sums.products[i][i] ** 0.5 for i in columns]
    table = [
        [sums.products[i][j] / (of_i * of_j) for j, of_j in zip(columns, sizes, strict=True)]
        + [sums.rows[i] / of_i]
        for i, of_i in zip(columns, sizes, strict=True)
    ]
    for pivot in range(len(columns)):  # positive definite: no rows need be exchanged
        if table[pivot][pivot] < SINGULAR:
            return None
        table[pivot] = [value / table[pivot][pivot] for value in table[pivot]]
        for i in range(len(columns)):
            if i != pivot:
                factor = table[i][pivot]
                table[i] = [a - factor * b for a, b in zip(table[i], table[pivot], strict=True)]
    found = [0.0, 0.0, 0.0]
    for column, size, line in zip(columns, sizes, table, strict=True):
        found[column] = line[-1] / size
    return found[0], found[1], found[2]
