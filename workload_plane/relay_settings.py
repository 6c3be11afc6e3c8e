"""Reads the section `relay` of a plane's settings, with every fault.

`settings` calls it with the reader that collects the faults of the whole file.
"""

from dataclasses import dataclass

from workload_plane.section_reader import Reader, names_of

_PORT_MAX = 65_535
# 10,000 streams of 16 KiB each, prompt and answer; a tenth of what the gateway may take itself.
HELD_BYTES_MAX = 256 * 1024 * 1024


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
    known = names_of(RelaySettings, inner, "the relay")
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
