"""Messages of any type with what nobody should send in them; as bytes, for some are no messages."""

import random
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.dice import mutated

DEPTH_MAX = 4
MANY_MAX = 20_000
NESTED_MAX = 200  # protobuf itself stops at a hundred
_MARK = "QQQQ"
_NO_UTF8 = (b"\xff\xfe\xfd\xfc", b"\xed\xa0\x80Q", b"\xc0\x80\xc0\x80", b"\xf8\x88\x80\x80")
TEXTS = (
    "",
    "x",
    "x" * 64,
    "x" * 10_000,
    "a\x00\x1b[31m\n",
    "../../etc/passwd",
    "projects/default/../../etc/passwd",
    "projects/default/planes/\u0440lane",
    "projects/other/planes/x",
    "-",
    "*",
    "' or 1=1 --",
    "<script>",
    "\u202e\ufeff",
    "state = 'ready' AND (" * 40,
    "9" * 400,
    "file:///etc/passwd",
    "hf://a/b@c#d",
    "https://127.0.0.1/x",
)
# Without these nearly everything would be refused at once, and nothing behind that be tried.
SOUND: dict[str, tuple[Any, ...]] = {
    "parent": ("projects/default",),
    "project": ("default",),
    "page_size": (0, 1, 50),
    "page_token": ("",),
    "filter": ("", "", 'name = "chat"', "name:*"),
    "order_by": ("", "name", "name desc"),
    "request_id": ("", "r-1", "r-2"),
    "etag": ("",),
}
ALWAYS = frozenset({"parent", "name", "project"})
SOUND_SHARE = 0.85
_INTS = (0, 1, -1, 2, 7, 100, 10**6, 10**9, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e-308, 1e308, float("nan"), float("inf"), float("-inf"))
_FILLED = (0.0, 0.15, 0.5, 0.9)  # how much of a message is there
_VARINT, _BYTES = 0, 2
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def request_bytes(dice: random.Random, descriptor: Descriptor, words: Sequence[str]) -> bytes:
    """Return a request of this type, or what is not; `words` are names that there are."""
    kind = dice.random()
    if kind < 0.06:
        return dice.randbytes(dice.randint(0, 200))
    if kind < 0.14:
        marked = a_message(dice, descriptor, [_MARK]).SerializeToString()
        return marked.replace(_MARK.encode(), dice.choice(_NO_UTF8))
    if kind < 0.19:
        return _too_many(dice, descriptor)
    if kind < 0.23:
        return _too_deep(dice, descriptor)
    message = a_message(dice, descriptor, words).SerializeToString()
    return mutated(dice, message) if kind < 0.5 else message


def a_message(dice: random.Random, of: Descriptor, words: Sequence[str], depth: int = 0) -> Message:
    """Return a message with some of its fields set, to what there is or to what is odd."""
    message: Any = GetMessageClass(of)()
    share = dice.choice(_FILLED)
    for field in of.fields:
        if dice.random() > share and field.name not in ALWAYS:
            continue
        if field.message_type is not None:
            _set_message(dice, message, field, words, depth)
        elif field.is_repeated:
            values = [_value(dice, field, words) for _ in range(dice.choice((1, 1, 2, 50)))]
            getattr(message, field.name).extend(values)
        else:
            sound = SOUND.get(field.name, ())
            is_sound = sound and words != [_MARK] and dice.random() < SOUND_SHARE
            value = dice.choice(sound) if is_sound else _value(dice, field, words)
            setattr(message, field.name, value)
    return message  # type: ignore[no-any-return]


def _set_message(
    dice: random.Random, message: Any, field: FieldDescriptor, words: Sequence[str], depth: int
) -> None:
    of = field.message_type
    assert of is not None
    if depth >= DEPTH_MAX:
        return
    if of.GetOptions().map_entry:
        key, value = of.fields_by_name["key"], of.fields_by_name["value"]
        if value.message_type is None:
            entries = getattr(message, field.name)
            entries[_value(dice, key, words)] = _value(dice, value, words)
    elif field.is_repeated:
        for _ in range(dice.choice((1, 1, 2, 8))):
            getattr(message, field.name).append(a_message(dice, of, words, depth + 1))
    else:
        getattr(message, field.name).CopyFrom(a_message(dice, of, words, depth + 1))


def _value(dice: random.Random, field: FieldDescriptor, words: Sequence[str]) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return dice.randbytes(dice.choice((0, 1, 32, 300)))
            return a_text(dice, words)
        case FieldDescriptor.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return dice.choice((*_FLOATS, dice.uniform(0, 100)))
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return dice.choice((*(value.number for value in field.enum_type.values), 99, -1))
        case kind:
            low, high = _BOUNDS[kind]
            return min(max(dice.choice((*_INTS, dice.randint(0, 20))), low), high)


def a_text(dice: random.Random, words: Sequence[str]) -> str:
    """Return a word that means something, or one that should not."""
    kind = dice.random()
    if kind < 0.6 or words == [_MARK]:
        return dice.choice(words)
    if kind < 0.8:
        return dice.choice(TEXTS)
    return mutated(dice, dice.choice(words).encode())[:1_000].decode("utf-8", "replace")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _wrapped(number: int, data: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(data)) + data


def _too_many(dice: random.Random, of: Descriptor) -> bytes:
    """Return a list without end, somewhere in it: empty messages, texts or numbers."""
    fields = [field for field in of.fields if field.is_repeated]
    times = dice.choice((200, 2_000, MANY_MAX))
    if fields:
        number = dice.choice(fields).number
        return (_tag(number, _BYTES) + b"\x00") * times
    inner = [field for field in of.fields if field.message_type is not None]
    if inner:
        field = dice.choice(inner)
        assert field.message_type is not None
        deeper = [one for one in field.message_type.fields if one.is_repeated]
        number = dice.choice(deeper).number if deeper else 1
        return _wrapped(field.number, (_tag(number, _BYTES) + b"\x00") * times)
    return (_tag(dice.randint(1, 20), _VARINT) + b"\x01") * times


def _too_deep(dice: random.Random, of: Descriptor) -> bytes:
    """Return messages in messages, deeper than the type has any."""
    numbers = [field.number for field in of.fields if field.message_type is not None] or [1, 2]
    data = b""
    for _ in range(dice.randint(20, NESTED_MAX)):
        data = _wrapped(dice.choice(numbers), data)
    return data
