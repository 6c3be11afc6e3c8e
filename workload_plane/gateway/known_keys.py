"""The API keys that a plane was told last, for when a desired state says nothing of keys.

A control plane of an earlier release, or one whose database was lost, knows of none: that is no
word against those there are. `feed` asks before it publishes.
"""

from dataclasses import replace
from pathlib import Path

from google.protobuf.message import DecodeError

from skerry.api.plane.v1.plane_service_pb2 import KeyRing
from skerry.fleet.api_key import ApiKey
from skerry.fleet.desired import DesiredState
from skerry.plumbing import logs
from skerry.plumbing.files import write_atomically
from skerry.wire.api_keys import key_ring_from_proto, key_ring_to_proto

_log = logs.get_logger(__name__)

KEYS_FILE = "keys.binpb"
_FILE_MODE = 0o600  # digests, no secrets; but nobody else's business


class KnownKeys:
    """The keys told last, in memory and in a file; it waits for the disk."""

    def __init__(self, directory: Path) -> None:
        """Keep the file in this directory; nothing is read yet."""
        self._path = directory / KEYS_FILE
        self._known: tuple[ApiKey, ...] | None = None

    def with_keys(self, desired: DesiredState) -> DesiredState:
        """Return the desired state with the keys in force, and keep those that it tells."""
        told = desired.api_keys
        if told is None:
            if self._known is None:
                self._known = self._read()
            return replace(desired, api_keys=self._known)
        if told != self._known:
            data = key_ring_to_proto(told).SerializeToString(deterministic=True)
            write_atomically(self._path, data, mode=_FILE_MODE)
            self._known = told
        return desired

    def _read(self) -> tuple[ApiKey, ...] | None:
        try:
            return key_ring_from_proto(KeyRing.FromString(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, DecodeError, ValueError) as error:
            _log.error("gateway.keys-unreadable", error=str(error), path=str(self._path))
            return None
