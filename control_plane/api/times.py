"""Moments as the API's messages carry them."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from skerry.plumbing.errors import InvalidInput


def time_to_proto(moment: datetime) -> Timestamp:
    """Return the message of an aware moment."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def moment_of(message: Any, field: str, path: str = "") -> datetime:
    """Return a moment that a message must tell; InvalidInput names `path`, or else the field."""
    if not message.HasField(field):
        raise InvalidInput(f"say the {field}", field=path or field)
    told: Timestamp = getattr(message, field)
    try:
        return told.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{field} is no time that there is", field=path or field) from None
