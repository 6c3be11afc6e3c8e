"""Errors carry their fields, and every kind is told apart from its siblings."""

from skerry.plumbing import errors
from skerry.plumbing.errors import FieldViolation, InvalidInput, SkerryError


def test_field_becomes_the_first_violation() -> None:
    other = FieldViolation(path="b", message="also wrong")
    error = InvalidInput("must be positive", field="a", violations=(other,))
    assert error.violations == (FieldViolation(path="a", message="must be positive"), other)
    assert error.field == "a"
    assert str(error) == "must be positive"


def test_error_without_fields_names_none() -> None:
    assert SkerryError("broken").field is None


def test_stale_generation_can_be_caught_as_conflict() -> None:
    assert issubclass(errors.StaleGeneration, errors.Conflict)
    assert not issubclass(errors.AlreadyExists, errors.Conflict)
