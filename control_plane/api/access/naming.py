"""Which projects and planes a request names, in any field of it, however deep.

Read from the message itself, so a new request is covered without a word here.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from control_plane.api.access.decision import Named

# Fields that hold PLANE--POOL without projects/PROJECT before it.
_POOL_FIELDS = frozenset({"pool", "from_pool", "to_pool"})
_OF_PLANES = frozenset({"pools", "nodes"})


def named_in(message: Message) -> Named:
    """Return what a request names."""
    projects: set[str] = set()
    planes: set[str] = set()
    for field, text in _texts(message):
        if field == "project" and text:
            projects.add(text)
        elif field in _POOL_FIELDS and text:
            planes.add(text.partition("--")[0])
        parts = text.split("/", 4)
        if parts[0] != "projects" or len(parts) < 2:
            continue
        projects.add(parts[1])
        if len(parts) > 3 and parts[2] == "planes":
            planes.add(parts[3])
        elif len(parts) > 3 and parts[2] in _OF_PLANES:
            planes.add(parts[3].partition("--")[0])
    return Named(projects=frozenset(projects), planes=frozenset(planes))


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield every text of a message with its field's name."""
    fields: Any = message.ListFields()
    for field, value in fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield from ((field.name, text) for text in (value if field.is_repeated else (value,)))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.message_type.GetOptions().map_entry:
                yield from ((field.name, str(key)) for key in value)
                continue
            for part in value if field.is_repeated else (value,):
                yield from _texts(part)
