"""Filters of lists as in AIP-160: `state = CONNECTED AND (labels.tier = "gold" OR NOT name:old)`.

`parse_filter` reads the text once, `matches` asks one message. Fields are those of the listed
message; AND binds weaker than OR, as the standard has it, and words side by side are joined by AND.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from skerry.plumbing.errors import InvalidInput

FILTER_CHARACTERS_MAX = 2_048
TERMS_MAX = 100
DEPTH_MAX = 16

Matcher = Callable[[Any], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<sign><=|>=|!=|[=<>:()-])|(?P<word>[^\s\"'()=<>!:]+))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_COMPARATORS = (*_COMPARISONS, ":")
_TIMESTAMP = Timestamp.DESCRIPTOR.full_name


class _Token(NamedTuple):
    kind: str  # text, sign, word or end
    value: str
    at: int


@dataclass(slots=True)
class _Reader:
    """The tokens of a filter and where the reader stands among them."""

    text: str
    tokens: list[_Token]
    descriptor: Descriptor
    without: frozenset[str]
    place: int = 0
    terms: int = 0
    depth: int = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def take(self) -> _Token:
        token = self.tokens[self.place]
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def has(self, kind: str, value: str) -> bool:
        return self.next.kind == kind and self.next.value == value

    def fail(self, what: str, at: int | None = None) -> InvalidInput:
        place = self.next.at if at is None else at
        return InvalidInput(f"filter, at character {place + 1}: {what}", field="filter")


def parse_filter(
    text: str, message: type[Message], without: frozenset[str] = frozenset()
) -> Matcher:
    """Return what says whether a message of that type passes; an empty filter lets all pass.

    InvalidInput says at which character what is wrong. Fields of `without` may not be asked for:
    a list does not tell them.
    """
    if not text.strip():
        return lambda _: True
    if len(text) > FILTER_CHARACTERS_MAX:
        raise InvalidInput(
            f"filter has {len(text)} characters; {FILTER_CHARACTERS_MAX} are allowed",
            field="filter",
        )
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    reader = _Reader(text=text, tokens=_tokens(text), descriptor=descriptor, without=without)
    matcher = _expression(reader)
    if reader.next.kind != "end":
        raise reader.fail(f"{reader.next.value!r} is not expected here")
    return matcher


def order_of(text: str, message: type[Message]) -> tuple[tuple[str, bool], ...]:
    """Return the fields of an order as in AIP-132, each with whether it falls; e.g. `a.b desc, c`.

    InvalidInput for a field that does not exist or cannot be ordered by.
    """
    found: list[tuple[str, bool]] = []
    for part in text.split(",") if text.strip() else ():
        words = part.split()
        if len(words) not in (1, 2) or (len(words) == 2 and words[1] not in ("asc", "desc")):
            raise InvalidInput(
                f"order_by: {part.strip()[:80]!r} must look like FIELD or FIELD desc",
                field="order_by",
            )
        field = _field_of(words[0], cast(Descriptor, message.DESCRIPTOR), "order_by")
        if field.is_repeated or (field.message_type and not _is_time(field)):
            raise InvalidInput(
                f"order_by: {words[0]!r} has no order; take a number, a text or a time",
                field="order_by",
            )
        found.append((words[0], words[-1] == "desc"))
    if len(found) > DEPTH_MAX:
        raise InvalidInput(f"order_by names more than {DEPTH_MAX} fields", field="order_by")
    return tuple(found)


def value_at(message: Any, path: str) -> Any:
    """Return the value of a field by its path; None where it, or what it is in, is not set.

    Times are (seconds, nanoseconds), enums their names; what follows a map is one of its keys.
    """
    parts = path.split(".")
    value: Any = message
    for number, part in enumerate(parts):
        field = value.DESCRIPTOR.fields_by_name[part]
        inner = getattr(value, part)
        if _is_map(field):
            key = ".".join(parts[number + 1 :])
            return inner.get(key) if key else inner
        if field.has_presence and not value.HasField(part):
            return None
        value = inner
    if _is_time(field):
        return value.seconds, value.nanos
    if field.enum_type is not None and not field.is_repeated:
        return field.enum_type.values_by_number[value].name
    return value


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise InvalidInput(
                f"filter, at character {place + 1}: {text[place : place + 20]!r} is no word; put"
                " text in quotes",
                field="filter",
            )
        kind = str(match.lastgroup)
        value = match.group(kind)
        start = match.start(kind)
        if kind == "text":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        found.append(_Token(kind, value, start))
        at = match.end()
    return [*found, _Token("end", "the end", len(text))]


def _expression(reader: _Reader) -> Matcher:
    reader.depth += 1
    if reader.depth > DEPTH_MAX:
        raise reader.fail(f"nested deeper than {DEPTH_MAX}")
    parts = [_factor(reader)]
    while reader.next.kind != "end" and not reader.has("sign", ")"):
        if reader.has("word", "AND"):
            reader.take()
        parts.append(_factor(reader))
    reader.depth -= 1
    return parts[0] if len(parts) == 1 else lambda message: all(part(message) for part in parts)


def _factor(reader: _Reader) -> Matcher:
    parts = [_term(reader)]
    while reader.has("word", "OR"):
        reader.take()
        parts.append(_term(reader))
    return parts[0] if len(parts) == 1 else lambda message: any(part(message) for part in parts)


def _term(reader: _Reader) -> Matcher:
    if reader.has("word", "NOT") or reader.has("sign", "-"):
        reader.take()
        denied = _simple(reader)
        return lambda message: not denied(message)
    return _simple(reader)


def _simple(reader: _Reader) -> Matcher:
    if reader.has("sign", "("):
        reader.take()
        inner = _expression(reader)
        if not reader.has("sign", ")"):
            raise reader.fail("a bracket is not closed")
        reader.take()
        return inner
    return _restriction(reader)


def _restriction(reader: _Reader) -> Matcher:
    reader.terms += 1
    if reader.terms > TERMS_MAX:
        raise reader.fail(f"more than {TERMS_MAX} conditions")
    name = reader.take()
    if name.kind != "word" or name.value in ("AND", "OR", "NOT"):
        raise reader.fail(f"a field's name is expected, not {name.value!r}", name.at)
    if name.value.partition(".")[0] in reader.without:
        raise reader.fail(f"lists do not tell {name.value!r}; get one by its name", name.at)
    sign = reader.take()
    if sign.kind != "sign" or sign.value not in _COMPARATORS:
        raise reader.fail(f"one of {' '.join(_COMPARATORS)} must follow {name.value!r}", sign.at)
    minus = "-" if reader.has("sign", "-") else ""
    if minus:
        reader.take()
    value = reader.take()
    if value.kind not in ("text", "word"):
        raise reader.fail("a value is expected", value.at)
    field = _field_of(name.value, reader.descriptor, "filter")
    told = minus + value.value
    if sign.value == ":":
        return _having(name.value, field, told)
    wanted = _wanted(reader, field, told, value.at)
    if isinstance(wanted, _Wildcard) and sign.value not in ("=", "!="):
        raise reader.fail("`*` has no order: ask with = or !=", value.at)
    return _comparison(name.value, sign.value, wanted)


def _having(path: str, field: FieldDescriptor, told: str) -> Matcher:
    """Return the matcher of `field:value`: holds it, or is set where the value is `*`."""

    def having(message: Any) -> bool:
        value = value_at(message, path)
        if value is None:
            return False
        if told == "*":
            return _is_set(field, value)
        if isinstance(value, str):
            return told.lower() in value.lower()
        if field.is_repeated:
            return any(str(item) == told for item in value)
        return told.lower() in str(value).lower()

    return having


def _is_set(field: FieldDescriptor, value: Any) -> bool:
    """Say whether a value that is there was also set; what has no presence is not when it is 0."""
    if field.is_repeated:
        return isinstance(value, str) or len(value) > 0
    if field.enum_type is not None:
        return bool(value != field.enum_type.values_by_number[0].name)
    return field.has_presence or bool(value)


@dataclass(frozen=True, slots=True)
class _Wildcard:
    """A text with `*` in it, which stands for any text; matched in one pass."""

    pieces: tuple[str, ...]

    def matches(self, text: str) -> bool:
        """Say whether the pieces stand in the text in order, the first and last at its ends."""
        head, *middle, tail = self.pieces
        at, end = len(head), len(text) - len(tail)
        if at > end or not text.startswith(head) or not text.endswith(tail):
            return False
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


def _comparison(path: str, sign: str, wanted: Any) -> Matcher:
    def compare(message: Any) -> bool:
        value = value_at(message, path)
        if value is None:  # what is not set equals nothing, and is neither more nor less
            return sign == "!="
        if isinstance(wanted, _Wildcard):
            return wanted.matches(value) is (sign == "=")
        return bool(_COMPARISONS[sign](value, wanted))

    return compare


def _wanted(reader: _Reader, field: FieldDescriptor, told: str, at: int) -> Any:
    """Return the value to compare with, of the field's own type."""
    if _is_map(field):
        entry = field.message_type
        assert entry is not None, "a map's entries are messages"
        field = entry.fields_by_name["value"]
    if field.is_repeated or (field.message_type is not None and not _is_time(field)):
        raise reader.fail("this field holds several values: ask with `:`", at)
    try:
        if _is_time(field):
            moment = Timestamp()
            moment.FromJsonString(told)
            return moment.seconds, moment.nanos
        if field.enum_type is not None:
            return _enum_name(field, told)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return {"true": True, "false": False}[told]
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return _Wildcard(tuple(told.split("*"))) if "*" in told else told
        return float(told)
    except (ValueError, KeyError):
        raise reader.fail(f"{told[:80]!r} is no value of this field", at) from None


def _enum_name(field: FieldDescriptor, told: str) -> str:
    assert field.enum_type is not None, "asked of enums only"
    names: set[str] = {value.name for value in field.enum_type.values}
    short = [name for name in names if name == told or name.endswith(f"_{told.upper()}")]
    if len(short) != 1:
        raise ValueError(told)
    return short[0]


def _field_of(path: str, descriptor: Descriptor, where: str) -> FieldDescriptor:
    """Return the descriptor of a path's last field, or of the map whose key its last part is."""
    parts = path.split(".")
    found: FieldDescriptor | None = None
    for number, part in enumerate(parts):
        field = descriptor.fields_by_name.get(part)
        if field is None:
            known = ", ".join(sorted(descriptor.fields_by_name))
            raise InvalidInput(
                f"{where}: there is no field {path[:80]!r}; at this place there are {known}",
                field=where,
            )
        found = field
        last = number == len(parts) - 1
        if _is_map(field) and not last:
            return field  # the rest is a key, whatever dots it has
        if not last and (field.message_type is None or field.is_repeated):
            raise InvalidInput(f"{where}: {part!r} of {path[:80]!r} has no fields", field=where)
        if field.message_type is not None:
            descriptor = field.message_type
    assert found is not None, "a path has a part"
    return found


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _is_time(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.full_name == _TIMESTAMP)
