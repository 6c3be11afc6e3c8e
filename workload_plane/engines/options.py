"""Engine options: which names are allowed for an engine, and what their values must be.

Renderers declare their rules and read the parsed values. Anything not declared is refused: an
option such as a hyphenated `trust-remote-code` would let a deployment run code of its own here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OptionValue = int | float | bool | str

_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerOption:
    """A whole number inside bounds, both included."""

    name: str
    least: int
    most: int

    def parse(self, text: str) -> OptionValue:
        """Return the number; raises ValueError saying what is allowed."""
        try:
            number = int(text)
        except ValueError:
            number = self.least - 1
        if not self.least <= number <= self.most:
            raise ValueError(f"must be a whole number in {self.least}..{self.most}, not {text!r}")
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberOption:
    """A number inside bounds, both included."""

    name: str
    least: float
    most: float

    def parse(self, text: str) -> OptionValue:
        """Return the number; raises ValueError saying what is allowed."""
        try:
            number = float(text)
        except ValueError:
            number = self.least - 1
        if not self.least <= number <= self.most:  # false for NaN as well
            raise ValueError(f"must be a number in {self.least:g}..{self.most:g}, not {text!r}")
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class BooleanOption:
    """`true` or `false`."""

    name: str

    def parse(self, text: str) -> OptionValue:
        """Return the truth value; raises ValueError saying what is allowed."""
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"must be true or false, not {text!r}")
        return _BOOLEANS[text.lower()]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceOption:
    """One of a few words."""

    name: str
    choices: tuple[str, ...]

    def parse(self, text: str) -> OptionValue:
        """Return the word; raises ValueError saying what is allowed."""
        if text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {text!r}")
        return text


OptionRule = IntegerOption | NumberOption | BooleanOption | ChoiceOption


def option_refusals(
    options: Sequence[tuple[str, str]], rules: Sequence[OptionRule], engine: str
) -> tuple[str, ...]:
    """Return one sentence for each option that the engine does not take as it is."""
    known = {rule.name: rule for rule in rules}
    found: list[str] = []
    seen: set[str] = set()
    for name, text in options:
        if name not in known:
            found.append(
                f"option {name!r}: not an allowed option of {engine};"
                f" allowed are {', '.join(sorted(known)) or 'none'}"
            )
            continue
        if name in seen:
            found.append(f"option {name!r}: given twice; keep one")
        seen.add(name)
        try:
            known[name].parse(text)
        except ValueError as error:
            found.append(f"option {name!r}: {error}")
    return tuple(found)


def option_values(
    options: Sequence[tuple[str, str]], rules: Sequence[OptionRule]
) -> dict[str, OptionValue]:
    """Return the options by name, parsed; they have no refusals."""
    known = {rule.name: rule for rule in rules}
    return {name: known[name].parse(text) for name, text in options}
