"""Three costs come out of sums of rows, none below 0."""

import pytest

from workload_plane.autoscale.fitting import Sums, fitted


def of(*rows: tuple[float, float, float]) -> Sums:
    sums = Sums()
    for row in rows:
        sums.add(row)
    return sums


def test_no_rows_are_no_costs() -> None:
    assert fitted(Sums()) == (0.0, 0.0, 0.0)


def test_rows_that_agree_give_their_costs() -> None:
    truth = (0.5, 2.0, 0.25)
    rows = []
    for row in ((1.0, 1.0, 1.0), (4.0, 1.0, 2.0), (1.0, 1.0, 9.0), (6.0, 2.0, 1.0)):
        told = sum(a * b for a, b in zip(row, truth, strict=True))
        rows.append((row[0] / told, row[1] / told, row[2] / told))
    assert fitted(of(*rows)) == pytest.approx(truth)


def test_no_cost_is_below_nothing() -> None:
    # More of the second makes less: without a bound it would cost less than nothing.
    found = fitted(of((1.0, 0.0, 0.0), (1.2, 1.0, 0.0), (1.4, 2.0, 0.0)))
    assert found == pytest.approx((3.6 / 4.4, 0.0, 0.0))


def test_columns_that_are_alike_are_the_second_ones() -> None:
    found = fitted(of((2.0, 1.0, 3.0), (2.0, 1.0, 3.0)))
    assert found == pytest.approx((0.0, 1.0, 0.0))


def test_what_is_older_fades_and_a_copy_is_its_own() -> None:
    sums = of((0.0, 1.0, 0.0))
    sums.add((0.0, 1.0, 0.0), kept=0.5)
    assert sums.count == 1.5
    copied = sums.copy()
    copied.add((1.0, 1.0, 1.0))
    assert (sums.count, sums.rows) == (1.5, [0.0, 1.5, 0.0])
