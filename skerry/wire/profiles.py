"""The steps of a profile, fleet <-> protobuf; the catalogue's entries carry the rest by name."""

from collections.abc import Iterable
from dataclasses import asdict, fields

from skerry.api.operator.v1 import profile_pb2 as pb
from skerry.fleet.profile import ProfileStep

_FIELDS = tuple(field.name for field in fields(ProfileStep))


def steps_to_proto(steps: Iterable[ProfileStep]) -> list[pb.ProfileStep]:
    """Return the messages of steps."""
    return [pb.ProfileStep(**asdict(step)) for step in steps]


def steps_from_proto(messages: Iterable[pb.ProfileStep]) -> tuple[ProfileStep, ...]:
    """Return the steps of messages; ValueError for what nobody can have measured."""
    return tuple(
        ProfileStep(**{name: getattr(message, name) for name in _FIELDS}) for message in messages
    )
