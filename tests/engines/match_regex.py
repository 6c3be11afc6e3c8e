"""Runs in the venv: holds a regular expression against both grammar backends' own readers.

Reads {regex, taken, refused} and prints what they do otherwise, as a JSON list.
"""

import json
import sys
from importlib import import_module  # they have no types, and are in this venv only


def faults_of(regex: str, taken: list[str], refused: list[str]) -> list[str]:
    """Return what is wrong: xgrammar matches texts, llguidance says whether it can read it."""
    grammar = import_module("xgrammar").Grammar.from_regex(regex)
    matches = import_module("xgrammar.testing")._is_grammar_accept_string
    wrong = [text for text in taken if not matches(grammar, text)]
    wrong += [text for text in refused if matches(grammar, text)]
    matcher = import_module("llguidance").LLMatcher
    fault = matcher.validate_grammar(matcher.grammar_from_regex(regex))
    return [*wrong, *([fault] if fault else [])]


if __name__ == "__main__":
    print(json.dumps(faults_of(**json.load(sys.stdin))))
