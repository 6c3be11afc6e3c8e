"""Strict YAML: what an operator's file says, with the line of each value, and nothing clever.

The command line reads its files through `parse`, and `dump` writes what it reads back. YAML 1.2
core scalars (`NO` and `12:30:00` are text), no anchors, tags or duplicate keys, and bounds on
everything: PyYAML's safe_load accepted an alias bomb in 10 ms whose JSON then filled 2 GiB.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import yaml

from skerry.plumbing.errors import InvalidInput

Path = tuple[str | int, ...]
Value = dict[str, "Value"] | list["Value"] | str | int | float | bool | None

BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
# 100,000 keys took 1.75 s; this many values are read in well under half a second.
NODES_MAX = 20_000
_INTEGER_MAX = 2**63 - 1

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a file, counted from one."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file: its value in plain Python, and where each part of it stands."""

    source: str
    value: Value
    marks: Mapping[Path, Mark]
    key_marks: Mapping[Path, Mark]

    def position(self, path: Path) -> tuple[int, int]:
        """Return (line, column) of the value at the path, or of what is nearest above it."""
        return _nearest(self.marks, path)

    def key_position(self, path: Path) -> tuple[int, int]:
        """Return (line, column) of the key that the path ends with, else `position`."""
        mark = self.key_marks.get(path)
        return (mark.line, mark.column) if mark else self.position(path)

    def fault(self, path: Path, message: str) -> InvalidInput:
        """Return an error that names the place of the path, for the caller to raise."""
        line, column = self.key_position(path)
        name = dotted(path)
        text = f"{self.source}:{line}:{column}: {f'{name}: ' if name else ''}{message}"
        return InvalidInput(text, field=name or None)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end is still to come."""

    path: Path
    items: list[Value] | None = None
    entries: dict[str, Value] | None = None
    key: str | None = None


@dataclass(slots=True)
class _Reading:
    source: str
    nodes: int = 0
    marks: dict[Path, Mark] = field(default_factory=dict)
    key_marks: dict[Path, Mark] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    root: Value = None
    is_blank: bool = True


def parse(text: bytes, source: str) -> tuple[Document, ...]:
    """Return the documents of a file, blank ones left out.

    Raises InvalidInput as `source:line:column: what is wrong`, also when there is no document.
    """
    documents: list[Document] = []
    reading = _Reading(source=source)
    try:
        for event in yaml.parse(_decode(text, source), Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                reading = _Reading(source=source, nodes=reading.nodes)
            elif isinstance(event, yaml.DocumentEndEvent):
                if not reading.is_blank:
                    documents.append(_document(reading))
            elif isinstance(event, yaml.NodeEvent):
                _open_node(reading, event)
            elif isinstance(event, yaml.CollectionEndEvent):
                _close(reading)
    except yaml.YAMLError as error:
        raise _syntax_fault(error, source) from None
    if not documents:
        raise InvalidInput(f"{source}:1:1: holds no document; it is empty or only comments")
    return tuple(documents)


def dump(documents: Iterable[Value]) -> str:
    """Return documents as a file, in the order they have; `parse` reads the same."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True  # written out: nobody reads them back


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 takes for a number; `1e5` and `0o17` are ones of 1.2.
    style = None if _is_text(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dotted(path: Path) -> str:
    """Return the path as people write it: `scaling.regions[2].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _decode(text: bytes, source: str) -> str:
    if len(text) > BYTES_MAX:
        raise InvalidInput(f"{source}:1:1: {len(text)} bytes; at most {BYTES_MAX} are read")
    try:
        return text.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise InvalidInput(f"{source}:{line}:{column}: not UTF-8 text; save it as UTF-8") from None


def _document(reading: _Reading) -> Document:
    return Document(
        source=reading.source,
        value=reading.root,
        marks=reading.marks,
        key_marks=reading.key_marks,
    )


def _open_node(reading: _Reading, event: yaml.NodeEvent) -> None:
    reading.nodes += 1
    if reading.nodes > NODES_MAX:
        _refuse(reading, event, f"more than {NODES_MAX} values; split the file")
    if event.anchor is not None:
        _refuse(reading, event, "anchors (&) and aliases (*) are not read; write it out")
    if getattr(event, "tag", None) is not None:
        _refuse(reading, event, f"tags are not read: {event.tag}")  # type: ignore[attr-defined]
    if _expects_key(reading):
        _take_key(reading, event)
        return
    path = _next_path(reading)
    reading.marks[path] = _mark(event)
    if isinstance(event, yaml.ScalarEvent):
        reading.is_blank = reading.is_blank and not reading.stack and _is_blank(event)
        _put(reading, _scalar(reading, event))
        return
    reading.is_blank = False
    if len(reading.stack) >= DEPTH_MAX:
        _refuse(reading, event, f"nested deeper than {DEPTH_MAX} levels")
    is_mapping = isinstance(event, yaml.MappingStartEvent)
    opened = _Open(path=path, entries={}) if is_mapping else _Open(path=path, items=[])
    reading.stack.append(opened)


def _expects_key(reading: _Reading) -> bool:
    top = reading.stack[-1] if reading.stack else None
    return top is not None and top.entries is not None and top.key is None


def _take_key(reading: _Reading, event: yaml.NodeEvent) -> None:
    top = reading.stack[-1]
    assert top.entries is not None
    key = _scalar(reading, event) if isinstance(event, yaml.ScalarEvent) else None
    if not isinstance(key, str) or key == "<<":
        _refuse(reading, event, "a key must be text; put it in quotes")
    if key in top.entries:
        line = reading.key_marks[(*top.path, key)].line
        _refuse(reading, event, f"key {key!r} was given in line {line} already")
    top.key = key
    reading.key_marks[(*top.path, key)] = _mark(event)


def _next_path(reading: _Reading) -> Path:
    if not reading.stack:
        return ()
    top = reading.stack[-1]
    if top.items is not None:
        return (*top.path, len(top.items))
    assert top.key is not None
    return (*top.path, top.key)


def _close(reading: _Reading) -> None:
    closed = reading.stack.pop()
    _put(reading, closed.entries if closed.entries is not None else closed.items)


def _put(reading: _Reading, value: Value) -> None:
    if not reading.stack:
        reading.root = value
        return
    top = reading.stack[-1]
    if top.items is not None:
        top.items.append(value)
        return
    assert top.entries is not None
    assert top.key is not None
    top.entries[top.key] = value
    top.key = None


def _is_blank(event: yaml.ScalarEvent) -> bool:
    return event.value == "" and bool(event.implicit[0])


def _scalar(reading: _Reading, event: yaml.ScalarEvent) -> Value:
    text: str = event.value
    if not event.implicit[0]:  # quoted, or a block: text whatever it looks like
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        # Python itself refuses numbers of thousands of digits with an error of its own.
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) <= 32 else math.inf
        if abs(number) > _INTEGER_MAX:
            _refuse(reading, event, "the number does not fit 64 bits; quote it if it is text")
        return number
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            _refuse(reading, event, f"{text[:40]} is not a finite number")
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        _refuse(reading, event, f"{text} is not a finite number; quote it if it is text")
    return text


def _is_text(text: str) -> bool:
    """Say whether a plain scalar is read as text."""
    if text in _NULL or text in _TRUE or text in _FALSE:
        return False
    return not any(form.fullmatch(text) for form in (_INTEGER, _FLOAT, _NOT_FINITE))


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None
    return Mark(line=event.start_mark.line + 1, column=event.start_mark.column + 1)


def _nearest(marks: Mapping[Path, Mark], path: Path) -> tuple[int, int]:
    while path and path not in marks:
        path = path[:-1]
    return (marks[path].line, marks[path].column)


def _refuse(reading: _Reading, event: yaml.Event, message: str) -> NoReturn:
    mark = _mark(event)
    raise InvalidInput(f"{reading.source}:{mark.line}:{mark.column}: {message}")


def _syntax_fault(error: yaml.YAMLError, source: str) -> InvalidInput:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return InvalidInput(f"{source}:{line}:{column}: {problem}")
