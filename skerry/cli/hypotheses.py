"""What might happen, as written on the command line: `--lose`, `--price`, `--demand`. Pure.

`skerry what-if` and `skerry schedule --what-if` read it; UsageFault says how to write it.
"""

from collections.abc import Iterator, Sequence

from skerry.cli.session import UsageFault
from skerry.client.questions import Hypothesis, Lose, ScaleDemand, ScalePrice
from skerry.fleet.deployment import FailureDomain

FACTOR_MAX = 1_000_000.0  # the control plane's own limit; past it a factor is a typing error
LOSE_HELP = "plane/NAME, region/CLOUD/REGION or cloud/NAME is gone. Repeatable."
PRICE_HELP = "FACTOR or FACTOR@POOL: prices times that. Repeatable."
DEMAND_HELP = "FACTOR or FACTOR@DEPLOYMENT: demand times that. Repeatable."
WHAT_IF_HELP = "lose=..., price=... or demand=..., as for `skerry what-if`. Repeatable."


def read_hypotheses(
    lose: Sequence[str], price: Sequence[str], demand: Sequence[str]
) -> tuple[Hypothesis, ...]:
    """Return every hypothesis of the options, losses first."""
    return (
        *map(read_loss, lose),
        *(ScalePrice(factor=f, pool=name) for f, name in _factors("--price", price)),
        *(ScaleDemand(factor=f, deployment=name) for f, name in _factors("--demand", demand)),
    )


def read_named(texts: Sequence[str]) -> tuple[Hypothesis, ...]:
    """Return the hypotheses written as `lose=...`, `price=...` or `demand=...`."""
    found: dict[str, list[str]] = {"lose": [], "price": [], "demand": []}
    for text in texts:
        kind, equals, value = text.partition("=")
        if not equals or kind not in found:
            raise UsageFault(f"--what-if {text[:120]!r}: write lose=..., price=... or demand=...")
        found[kind].append(value)
    return read_hypotheses(found["lose"], found["price"], found["demand"])


def read_loss(text: str) -> Lose:
    """Return the loss of a domain, written KIND/NAME."""
    kind, _, name = text.partition("/")
    # A region is told with its cloud: clouds give their regions the same names.
    parts = name.split("/")
    is_whole = all(parts) and len(parts) == (2 if kind == FailureDomain.REGION else 1)
    if kind not in list(FailureDomain) or not is_whole:
        raise UsageFault(
            f"--lose {text[:120]!r}: write plane/NAME, region/CLOUD/REGION or cloud/NAME;"
            " `skerry get planes` shows them"
        )
    return Lose(domain=FailureDomain(kind), name=name)


def read_domains(text: str | None) -> tuple[FailureDomain, ...]:
    """Return the kinds of domains to look at: the one named, or all."""
    if text is None:
        return tuple(FailureDomain)
    if text not in list(FailureDomain):
        raise UsageFault(f"--domain must be one of {', '.join(FailureDomain)}, not {text[:63]!r}")
    return (FailureDomain(text),)


def describe(hypothesis: Hypothesis) -> str:
    """Return a hypothesis as part of a sentence."""
    match hypothesis:
        case Lose():
            return f"{hypothesis.domain} {hypothesis.name} is lost"
        case ScalePrice():
            return f"{hypothesis.pool or 'every pool'} costs {hypothesis.factor:g} times as much"
        case ScaleDemand():
            whose = f"for {hypothesis.deployment}" if hypothesis.deployment else "for everything"
            return f"demand {whose} is {hypothesis.factor:g} times as high"


def _factors(option: str, texts: Sequence[str]) -> Iterator[tuple[float, str | None]]:
    for text in texts:
        number, at, name = text.partition("@")
        try:
            factor = float(number)
        except ValueError:
            factor = -1.0
        if not 0.0 <= factor <= FACTOR_MAX or (at and not name):  # NaN is in no range
            raise UsageFault(
                f"{option} {text[:120]!r}: write a factor from 0 to {FACTOR_MAX:g}, such as 1.5,"
                " or 1.5@NAME for one only"
            )
        yield factor, name or None
