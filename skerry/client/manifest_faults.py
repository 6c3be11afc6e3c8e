"""What is wrong with a document of a file, in the words of this project, each fault with its place.

`skerry.client.manifest` and `manifest_intents` put what the schema and the fleet's own values
refuse through it.
"""

import contextlib
import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from skerry.client.manifest_schema import Part
from skerry.plumbing import yaml_document
from skerry.plumbing.errors import FieldViolation, InvalidInput

FAULTS_SHOWN_MAX = 10  # a file of the wrong kind has one in each line

Path = tuple[str | int, ...]

# pydantic's error types in the words of this project; `{...}` is filled from the error's context.
_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "list_type": "must be a list",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "too_short": "needs at least {min_length} entry",
    "too_long": "takes at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
}
_PATTERNS: Mapping[str, str] = {
    "uri": "must be a URI such as hf://ORGANISATION/NAME or builtin://skerry-tiny",
    "draftModelUri": "must be a URI such as hf://ORGANISATION/NAME or builtin://skerry-tiny",
    "sha256": "must be 64 digits of 0-9 and a-f",
}


@contextlib.contextmanager
def placed(document: yaml_document.Document, *path: str | int) -> Iterator[None]:
    """Give a fleet value's refusal the place in the file that it is about."""
    try:
        yield
    except ValueError as error:
        raise document.fault(path, str(error)) from None


def faults_of(
    document: yaml_document.Document, schema: type[Part], error: pydantic.ValidationError
) -> InvalidInput:
    """Return all that a schema refuses of a document as one error, in the file's order."""
    faults: dict[str, InvalidInput] = {}
    for item in error.errors(include_url=False, include_input=False):
        path, message = _explain(schema, item)
        fault = document.fault(path, message)
        faults.setdefault(fault.message, fault)
    # Unlike the schema's, the reader's order is the file's.
    ordered = sorted(faults.values(), key=lambda f: _line_of(f.message, document.source))
    return joined(ordered)


def joined(faults: Sequence[InvalidInput]) -> InvalidInput:
    """Return several faults as one error that names the first of them, and how many more."""
    lines = [line for fault in faults for line in fault.message.splitlines()]
    shown = lines[:FAULTS_SHOWN_MAX]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more faults")
    violations = tuple(
        FieldViolation(path=v.path, message=v.message) for f in faults for v in f.violations
    )
    return InvalidInput("\n".join(shown), violations=violations[:FAULTS_SHOWN_MAX])


def suggest(given: str, known: Sequence[str]) -> str:
    """Return the known name that was meant, or else all that there are, as the end of a fault."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _line_of(message: str, source: str) -> tuple[int, int]:
    line, column, _ = message.removeprefix(f"{source}:").split(":", 2)
    return int(line), int(column)


def _explain(schema: type[Part], item: Any) -> tuple[Path, str]:
    location: Path = item["loc"]
    kind, context = item["type"], item.get("ctx") or {}
    if location and location[-1] == "[key]":
        return location[:-1], "the key must be printable text"
    if "options" in location and len(location) > 4:
        # Every branch of the union of scalars complains; one sentence says it.
        return location[:4], "must be text, a number, true or false"
    if kind == "extra_forbidden":
        known = _fields_at(schema, location[:-1])
        return location, f"unknown field{suggest(str(location[-1]), known)}"
    if kind == "value_error":
        return location, str(context.get("error", item["msg"]))
    if kind == "string_pattern_mismatch":
        return location, _PATTERNS.get(str(location[-1]), "must be printable text")
    template = _MESSAGES.get(kind)
    return location, template.format(**context) if template else item["msg"]


def _fields_at(schema: type[Part], path: Sequence[str | int]) -> list[str]:
    """Return the names of the fields that a mapping at the path may have."""
    part: Any = schema
    for step in path:
        if isinstance(step, str):
            part = next((f.annotation for f in part.model_fields.values() if f.alias == step), None)
        part = _model_in(part)
        if part is None:
            return []
    return [field.alias or name for name, field in part.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    """Return the schema's class inside an annotation such as `list[Part]` or `Part | None`."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation if issubclass(annotation, Part) else None
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
