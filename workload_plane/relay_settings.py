"""Reads the section `relay` of a plane's settings, with every fault.

`settings` calls it with the reader that collects the faults of the whole file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

_PORT_MAX = 65_535
# 10,000 streams of 16 KiB each, prompt and answer; a tenth of what the gateway may take itself.
HELD_BYTES_MAX = 256 * 1024 * 1024

Value = TypeVar("Value")


class Reader(Protocol):
    """What takes values out of decoded settings and collects what is wrong with them."""

    values: Mapping[str, object]

    def fault(self, key: str, message: str) -> None:
        """Note what is wrong with a setting."""
        ...

    def take(self, key: str, kind: type[Value], default: Value) -> Value:
        """Return a setting of the kind, the default without one or with a fault."""
        ...

    def inner(self, key: str) -> "Reader | None":
        """Return the reader of a section, None without one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Ports of the relay on this host, all on loopback, and what it may hold.

    `http_port` and `grpc_port` are the relay's own, `inner_port` is the gateway's for the relay.
    """

    http_port: int
    grpc_port: int
    inner_port: int
    held_bytes_max: int = HELD_BYTES_MAX


def read_relay(reader: Reader) -> RelaySettings | None:
    """Return the relay's settings, None for a plane that has none."""
    inner = reader.inner("relay")
    if inner is None:
        return None
    known = [field.name for field in fields(RelaySettings)]
    for key in inner.values:
        if key not in known:
            inner.fault(str(key), f"is not a setting of the relay: {', '.join(known)}")
    ports = {}
    for key in known[:3]:
        ports[key] = inner.take(key, int, 0)
        if not 0 < ports[key] <= _PORT_MAX:
            inner.fault(key, f"must be a port, 1..{_PORT_MAX}")
    if len(set(ports.values())) < len(ports):
        inner.fault("inner_port", "must be three different ports")
    held = inner.take("held_bytes_max", int, HELD_BYTES_MAX)
    if held < 0:
        inner.fault("held_bytes_max", "must be at least 0, which keeps no stream")
    return RelaySettings(**ports, held_bytes_max=held)
