"""The desired-state file's format, which every later release must read for ever.

One JSON header line, then the `Desired` message byte for byte as it was received, so that fields
this release does not know stay on disk. Golden files of each version lie in tests/wire.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from skerry.api.plane.v1.plane_service_pb2 import Desired
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.plumbing.errors import Corrupt, InvalidInput
from skerry.wire.desired import desired_from_proto

FORMAT = 1
MAGIC = "skerry-desired-state"
SEEN_MAGIC = "skerry-highest-version"
HEADER_BYTES_MAX = 1024  # a header is about 200 bytes; a longer first line is not ours
# As `encode` writes it, for a header that is no JSON any more.
_VERSION = re.compile(rb'"epoch": (\d{1,18}), "format": \d+, "generation": (\d{1,18}), ')


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDesired:
    """A desired state as it lies on disk: the value, and the bytes it came as."""

    state: DesiredState
    payload: bytes


def encode(payload: bytes, version: Version) -> bytes:
    """Return the file's content for a received message of that version."""
    header = {
        "magic": MAGIC,
        "format": FORMAT,
        "epoch": version.epoch,
        "generation": version.generation,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "bytes": len(payload),
    }
    return json.dumps(header, sort_keys=True).encode() + b"\n" + payload


def decode(data: bytes) -> StoredDesired:
    """Return what a file says; raises Corrupt when it is torn, altered or of a later format."""
    header, payload = _split(data)
    number = header.get("format")
    if number != FORMAT:
        raise Corrupt(f"desired-state format {number!r} is not known here; formats known: {FORMAT}")
    if header.get("bytes") != len(payload):
        raise Corrupt(f"torn: {len(payload)} bytes of {header.get('bytes')} are there")
    if header.get("sha256") != hashlib.sha256(payload).hexdigest():
        raise Corrupt("altered: the checksum does not match")
    stored = parse(payload)
    if _version_of(header) != stored.state.version:
        raise Corrupt("altered: the header names another version than the content")
    return stored


def encode_seen(version: Version) -> bytes:
    """Return the content of the file that keeps the highest version alone."""
    header = {
        "magic": SEEN_MAGIC,
        "epoch": version.epoch,
        "generation": version.generation,
        "sha256": _digest_of(version),
    }
    return json.dumps(header, sort_keys=True).encode() + b"\n"


def decode_seen(data: bytes) -> Version:
    """Return the version that such a file keeps; raises Corrupt when it is torn or altered."""
    header, rest = _split(data, SEEN_MAGIC)
    version = _version_of(header)
    if rest or header.get("sha256") != _digest_of(version):
        raise Corrupt("altered: the checksum does not match")
    return version


def _digest_of(version: Version) -> str:
    return hashlib.sha256(f"{SEEN_MAGIC} {version}".encode()).hexdigest()


def parse(payload: bytes) -> StoredDesired:
    """Return the value of a message's bytes; raises Corrupt when they are no desired state."""
    try:
        return StoredDesired(state=desired_from_proto(Desired.FromString(payload)), payload=payload)
    except (DecodeError, InvalidInput, ValueError) as error:
        raise Corrupt(f"not a desired state: {error}") from None


def digest_in(payload: bytes) -> bytes:
    """Return the digest that a message tells of itself; the bytes are a desired state's."""
    return Desired.FromString(payload).digest


def version_in(data: bytes) -> Version:
    """Return the version that a damaged file still tells; NEVER when it tells none.

    The content is asked first, where its checksum is legible and fits: a version that is too high
    would make the plane refuse everything for good, one that is too low would let older ones in.
    """
    head, _, payload = data.partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() in head:
        try:
            return parse(payload).state.version
        except Corrupt:
            return NEVER
    try:
        return _version_of(_split(data)[0])
    except Corrupt:
        pass
    told = _VERSION.search(data[:HEADER_BYTES_MAX])
    return Version(epoch=int(told[1]), generation=int(told[2])) if told else NEVER


def _split(data: bytes, magic: str = MAGIC) -> tuple[dict[str, object], bytes]:
    line, newline, payload = data.partition(b"\n")
    if not newline or len(line) > HEADER_BYTES_MAX:
        raise Corrupt("no header line")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        raise Corrupt("the header is not JSON") from None
    if not isinstance(header, dict) or header.get("magic") != magic:
        raise Corrupt("not a desired-state file")
    return header, payload


def _version_of(header: Mapping[str, object]) -> Version:
    epoch, generation = header.get("epoch"), header.get("generation")
    if type(epoch) is not int or type(generation) is not int or min(epoch, generation) < 0:
        raise Corrupt("the header names no version")
    return Version(epoch=epoch, generation=generation)
