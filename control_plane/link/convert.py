"""Desired states as the bytes that are stored, pushed and kept on the plane's disk."""

from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.wire.desired import desired_from_proto, desired_to_proto
from skerry.wire.supply import version_to_proto


def encode_desired(desired: DesiredState) -> tuple[bytes, bytes]:
    """Return (payload, digest) of a desired state; the digest leaves its version out."""
    message = desired_to_proto(desired)
    return message.SerializeToString(deterministic=True), message.digest


def digest_in(payload: bytes) -> bytes:
    """Return the digest that an encoded state tells of itself."""
    return plane_service_pb2.Desired.FromString(payload).digest


def decode_desired(payload: bytes, version: Version) -> DesiredState:
    """Return the desired state of a stored payload, at the version the store gave it."""
    message = plane_service_pb2.Desired.FromString(payload)
    message.version.CopyFrom(version_to_proto(version))
    return desired_from_proto(message)


def message_of(payload: bytes, version: Version) -> plane_service_pb2.Desired:
    """Return the message to push: the stored payload under its version."""
    message = plane_service_pb2.Desired.FromString(payload)
    message.version.CopyFrom(version_to_proto(version))
    return message
