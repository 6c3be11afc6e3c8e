"""Budgets as people write them."""

import pytest

from skerry.client.quantities import parse_budget
from skerry.fleet.api_key import KeyTerms
from skerry.fleet.token_budget import BudgetPeriod


@pytest.mark.parametrize(
    ("text", "tokens", "period"),
    [
        ("10M/month", 10_000_000, "month"),
        ("500k/day", 500_000, "day"),
        ("250000", 250_000, "month"),
        ("1.5G", 1_500_000_000, "month"),
    ],
)
def test_a_budget_is_an_amount_of_a_day_or_a_month(text: str, tokens: int, period: str) -> None:
    assert parse_budget(text) == (tokens, BudgetPeriod(period))


@pytest.mark.parametrize("text", ["", "0", "0.1", "-5", "10M/week", "10 M", "1e9", "9" * 70])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="10M/month"):
        parse_budget(text)


def test_terms_are_bounded_and_a_period_belongs_to_a_budget() -> None:
    for wrong in (
        {"tokens_per_minute": -1},
        {"tokens_per_minute": 10**10},
        {"budget_tokens": 10**15},
        {"budget_period": BudgetPeriod.DAY},
    ):
        with pytest.raises(ValueError, match=r"must be|bounds nothing"):
            KeyTerms(deployments=("*",), **wrong)
    assert KeyTerms(deployments=("*",), tokens_per_minute=1).counts_tokens
    assert not KeyTerms(deployments=("*",), requests_per_minute=1).counts_tokens
