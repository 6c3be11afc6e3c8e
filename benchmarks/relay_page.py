"""The page of the relay's benchmark, from its results."""

from collections.abc import Mapping
from typing import Any

EVENTS_PER_CPU_SECOND_TARGET = 25_000
_KINDS = {
    "kept": "kept, as an engine without counts sends them (llama.cpp, simulated)",
    "counted": "kept, with counts asked for and taken out again (vLLM, SGLang, TensorRT-LLM)",
    "unkept": "the bound: not kept, passed unread",
}
_PAGE = """# Continued streams: what the relay costs

Made by `make bench-relay` on {machine}; the load average was {load:g}
before it. {streams} streams at once of {tokens} events each, {rounds} rounds, the kinds in turn in
each; the figures are medians.

* At least {target:,} events per CPU-second of the relay, kept: {kept:,.0f}, {verdict}. It is
  {share:.2f} of the bound, the way through one more process: two system calls an event.

An event is read and written alone, the dearest case, with an engine where the gateway would be.
The relay had {memory:.0f} MiB.

| | events per CPU-second of the relay | events/s |
|---|---|---|
{kinds}

Through a real Envoy and the same engine:

| continuation | Envoy, µs of CPU an event | relay, µs | first byte at its fastest, ms | p50, ms |
|---|---|---|---|---|
{gateway}

Absolute figures are of this machine, and others that use it lower them: what a plain Envoy does
there is in [the gateway beside others](gateway.md).
"""


def page_of(values: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    streams, tokens = values["streams"]
    rows = {row["kind"]: row for row in values["relay"]}
    kept = rows["kept"]["events_per_cpu_second"]
    return _PAGE.format(
        machine=values["machine"],
        load=values["load_before"],
        streams=streams,
        tokens=tokens,
        rounds=values["rounds"],
        target=EVENTS_PER_CPU_SECOND_TARGET,
        kept=kept,
        verdict="reached" if kept >= EVENTS_PER_CPU_SECOND_TARGET else "**missed**",
        share=kept / rows["unkept"]["events_per_cpu_second"],
        memory=rows["kept"]["memory_mib"],
        kinds="\n".join(
            f"| {told} | {rows[kind]['events_per_cpu_second']:,.0f} |"
            f" {rows[kind]['events_per_second']:,.0f} |"
            for kind, told in _KINDS.items()
        ),
        gateway="\n".join(
            f"| {'on' if row['continuation'] else 'off'} |"
            f" {row['gateway_microseconds_per_event']:.0f} |"
            f" {row['relay_microseconds_per_event']:.0f} | {row['first_byte_ms_least']:.1f} |"
            f" {row['first_byte_ms_p50']:.1f} |"
            for row in values["gateway"]
        ),
    )
