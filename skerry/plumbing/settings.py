"""Settings read once, at start, from a TOML file and the environment into a frozen dataclass.

Each process's `settings.py` declares the dataclass; its `main` calls `load`. All faults are
reported together: nobody should have to start a process five times to find five typos.
"""

import dataclasses
import enum
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from skerry.plumbing.errors import FieldViolation, InvalidInput

T = TypeVar("T")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def load(cls: type[T], env: Mapping[str, str], prefix: str, file: Path | None = None) -> T:
    """Return `cls` filled from defaults, then the file, then `<PREFIX><FIELD>` of `env`.

    Raises InvalidInput naming every fault, among them what `__post_init__` says by ValueError.
    """
    faults: list[FieldViolation] = []
    raw: dict[str, tuple[str, Any]] = {}  # field -> (where it was written, what was written)
    for key, value in _read_toml(file, faults).items():
        raw[key] = (f"{file}: {key}", value)
    fields = {field.name: field for field in dataclasses.fields(_as_dataclass(cls))}
    for name in raw.keys() - fields.keys():
        faults.append(FieldViolation(path=raw[name][0], message="no such setting"))
    for name in fields:
        variable = variable_name(prefix, name)
        if variable in env:
            raw[name] = (variable, env[variable])
    values: dict[str, object] = {}
    kinds = typing.get_type_hints(cls)
    for name, field in fields.items():
        if name in raw:
            where, written = raw[name]
            try:
                values[name] = _convert(written, kinds[name])
            except ValueError as error:
                faults.append(FieldViolation(path=where, message=str(error)))
        elif _is_required(field):
            message = "is required and was not given"
            faults.append(FieldViolation(path=variable_name(prefix, name), message=message))
    if not faults:
        try:
            return cls(**values)
        except ValueError as error:
            faults.append(FieldViolation(path=cls.__name__, message=str(error)))
    text = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
    raise InvalidInput(f"settings are wrong: {text}", violations=tuple(faults))


def variable_name(prefix: str, field: str) -> str:
    """Return the environment variable of a field: `SKERRY_PLANE_` + `data_dir` in capitals."""
    return f"{prefix}{field}".upper()


def _as_dataclass(cls: type[Any]) -> type[Any]:
    assert dataclasses.is_dataclass(cls), f"{cls.__name__} must be a dataclass"
    return cls


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _read_toml(file: Path | None, faults: list[FieldViolation]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        faults.append(FieldViolation(path=str(file), message=f"cannot be read: {error}"))
        return {}


def _convert(value: Any, kind: Any) -> object:
    """Turn text, or a value of TOML, into the field's type; raises ValueError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [argument for argument in arguments if argument is not type(None)]
        assert len(inner) == 1, f"{kind}: only `T | None` is read"
        return None if value == "" else _convert(value, inner[0])
    if origin is tuple:
        assert arguments[1:] == (...,), f"{kind}: only `tuple[T, ...]` is read"
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list):
            raise ValueError(f"{value!r} is not a list")
        stripped = [part.strip() if isinstance(part, str) else part for part in parts]
        return tuple(_convert(part, arguments[0]) for part in stripped if part != "")
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    return _convert_scalar(value, kind)


def _convert_scalar(value: Any, kind: type[Any]) -> object:
    if kind is bool:
        return _convert_bool(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    if kind in (str, Path):
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text; quote it")
        return kind(value)
    if issubclass(kind, enum.Enum):
        return kind(value)
    try:
        number: int | float = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number of type {kind.__name__}") from None
    if not math.isfinite(number) or (isinstance(value, float) and number != value):
        raise ValueError(f"{value!r} is not a finite number of type {kind.__name__}")
    return number


def _convert_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{value!r} is neither true nor false")
