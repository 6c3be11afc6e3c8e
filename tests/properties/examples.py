"""How many examples a property is tried with, where Hypothesis' own hundred is not it."""

import os


def examples(usual: int) -> int:
    """Return the usual number, or what SKERRY_PROPERTY_EXAMPLES says for every property."""
    return int(os.environ.get("SKERRY_PROPERTY_EXAMPLES", usual))
