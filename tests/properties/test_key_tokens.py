"""What holds of API keys' tokens whatever is asked, in any order, and however clocks are set."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from skerry.fleet.token_budget import BudgetPeriod, period_at, seconds_left
from workload_plane.picker.key_tokens import (
    PERIODS_KEPT,
    Bound,
    Charge,
    KeyTokens,
    TokenBounds,
    TokenBucket,
)

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
KEY, PER_MINUTE, BUDGET = "team", 600, 5_000
TOKENS = st.floats(0, 2_000)
MOMENTS = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


class Requests(RuleBasedStateMachine):
    """A bounded key asks, ends and waits; both clocks do what they like, the steady one forward."""

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.now, self.when = 1_000.0, START
        self.tokens = KeyTokens()
        self.tokens.update({KEY: TokenBounds(PER_MINUTE, BUDGET, BudgetPeriod.DAY)}, self.now)

    def left(self) -> float:
        bucket = self.tokens._buckets[KEY]
        return bucket.left(self.now)

    @rule(seconds=st.floats(0, 300))
    def time_passes(self, seconds: float) -> None:
        before = self.left()
        self.now += seconds
        assert before <= self.left() <= PER_MINUTE, "waiting takes nothing away, and fills no more"

    @rule(days=st.integers(-3, 3), seconds=st.integers(-5_000, 5_000))
    def somebody_sets_the_wall_clock(self, days: int, seconds: int) -> None:
        before = self.left()
        self.when += timedelta(days=days, seconds=seconds)
        assert self.left() == before, "a minute is the steady clock's"

    @rule(target=opened, prompt=TOKENS, answer=TOKENS)
    def asks(self, prompt: float, answer: float) -> Charge | None:
        period = self.tokens.period(KEY, self.when)
        charge = Charge(prompt, prompt + answer, period)
        left, spent = self.left(), self.tokens.spent(KEY, period)
        refusal = self.tokens.refusal(KEY, charge, self.now, self.when)
        assert (self.left(), self.tokens.spent(KEY, period)) == (left, spent), "asking is free"
        if refusal is not None:
            assert refusal.seconds > 0
            assert (refusal.bound is Bound.BUDGET) == (spent >= BUDGET)
            return None
        assert left > 0, "nobody is let in where nothing is left"
        assert spent < BUDGET
        self.tokens.take(KEY, charge, self.now)
        return charge

    @rule(charge=consumes(opened), used=st.floats(0, 4_000))
    def ends(self, charge: Charge | None, used: float) -> None:
        if charge is None:
            return
        before, had = self.left(), self.tokens.spent(KEY, charge.period)
        self.tokens.settle(KEY, charge, used, self.now)
        assert self.left() - before <= charge.tokens + 1e-6, "no more comes back than was charged"
        assert self.left() <= PER_MINUTE
        assert had - self.tokens.spent(KEY, charge.period) <= charge.tokens + 1e-6

    @rule()
    def is_told_of_another_key(self) -> None:
        left, kept = self.left(), self.tokens.kept()
        bounds = TokenBounds(PER_MINUTE, BUDGET, BudgetPeriod.DAY)
        self.tokens.update({KEY: bounds, "other": TokenBounds(1)}, self.now)
        assert (self.left(), self.tokens.kept()) == (left, kept)

    @invariant()
    def the_present_day_is_counted_and_few_others(self) -> None:
        kept = self.tokens.kept()
        assert len(kept) <= PERIODS_KEPT
        assert all(one.tokens > 0 for one in kept)

    @invariant()
    def another_run_goes_on_from_there(self) -> None:
        again = KeyTokens()
        again.restore(self.tokens.kept())
        assert again.kept() == self.tokens.kept()


TestRequests = Requests.TestCase


@given(
    uses=st.lists(st.floats(0, 3_000), max_size=8),
    tokens=st.floats(1, 3_000),
    per_minute=st.integers(1, 2_000),
)
def test_who_waits_as_long_as_was_said_is_let_in(
    uses: list[float], tokens: float, per_minute: int
) -> None:
    bucket = TokenBucket(per_minute, 0.0)
    for used in uses:
        bucket.take(used, 0.0)
    seconds = bucket.wait_seconds(tokens, 0.0)
    if seconds > 1.0:
        assert bucket.wait_seconds(tokens, seconds / 2) > 0.0, "and no earlier"
    # Retry-After is whole seconds, more than what a double is short of.
    assert bucket.wait_seconds(tokens, seconds + 1e-3) == 0.0


@given(tokens=TOKENS, more=TOKENS, used=TOKENS)
def test_who_asks_for_more_waits_no_shorter(tokens: float, more: float, used: float) -> None:
    bucket = TokenBucket(PER_MINUTE, 0.0)
    bucket.take(used, 0.0)
    assert bucket.wait_seconds(tokens, 0.0) <= bucket.wait_seconds(tokens + more, 0.0)


@given(back=st.floats(0, 1_000))
def test_a_moment_that_is_past_changes_nothing(back: float) -> None:
    bucket = TokenBucket(PER_MINUTE, 1_000.0)
    bucket.take(500.0, 1_000.0)
    assert bucket.left(1_000.0 - back) == 100.0
    assert bucket.left(1_000.0) == 100.0


@given(when=MOMENTS, period=st.sampled_from(BudgetPeriod))
def test_a_period_ends_when_it_says(when: datetime, period: BudgetPeriod) -> None:
    seconds = seconds_left(period, when)
    assert 0 < seconds <= 31 * 86_400
    end = when + timedelta(seconds=seconds)
    last = end - timedelta(microseconds=1)
    assert period_at(period, last) == period_at(period, when)
    assert period_at(period, end) > period_at(period, when)
