"""The page docs/benchmarks/fuzz.md from the results of `make fuzz`, which calls `write_page`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "fuzz.md"
P99_MS_MAX = 100.0
INPUTS = 100_000
TEXT = """# Fuzzing: every listener

Made by `make fuzz` from `benchmarks/results/fuzz.json`; do not edit. {date}, seed {seed},
{machine}; load {load_before} before, {load_after} after: above its cores others used the machine.

{inputs:,} inputs. Each follows from the seed, the listener and its number, so that any of them can
be sent again: `make fuzz SEED={seed} LISTENER="operator gRPC" FROM=1234 INPUTS=1`. What an input
meets (which deployments there are by then) follows from those before it.

| listener | inputs | a second | INTERNAL, UNKNOWN, 500, tracebacks, ends | of all answers |
|---|---|---|---|---|
{listeners}

What goes where:

* **operator gRPC**: every method that reflection tells of, with an admin's token, a damaged one and
  none: valid, half valid and boundary messages, wrong UTF-8, lists of 20,000, nests of 200, changed
  bytes, bytes by chance, odd metadata, paths and deadlines.
* **operator HTTP**: the same as JSON, damaged; odd headers, methods, paths and lengths; bytes by
  chance.
* **planes' link**: with a plane's certificate garbage for a Hello, and after a good one damaged
  messages of each kind; after each a heartbeat must be answered, or the stream ended with a reason.
* **gateway HTTP** and **gateway gRPC**: OpenAI's paths with odd wishes and damaged JSON, Generate
  and Control of `openengine.v1` with damaged messages, against simulated engines.
* **keyed gateway**: a fleet that asks for API keys: credentials of all shapes, in their place and
  beside it. Found is also whoever is let in without the key.
* **dashboard**: pages and forms with a session, without one, with what is none; odd paths, queries,
  cookies, bodies. Found is also a page that nobody signed in for, or one without its policy.
* **join port**: Join and Renew by whoever has no certificate, with open invites, proofs and
  certificate requests that are damaged, keys that are not taken, and noise before TLS.
* **parsers**: whatever reads files, URIs, bodies and messages, in one process.

The control plane is a real process on SQLite, for its five ports with planes that only say they
are there, for the gateway with a plane of `skerry up`. "(silence)" is a request that is not whole,
"(went on)" a stream that was left.

## Others meanwhile

Another process asks up to 20 times a second for each of these; the bound is a p99 of {bound:g} ms.

| while | call | calls | failed | median | p99 | held |
|---|---|---|---|---|---|---|
{witnesses}

{verdict}
"""


def write_page(results: Mapping[str, Any]) -> None:
    """Write the page."""
    PAGE.write_text(page(results))


def page(results: Mapping[str, Any]) -> str:
    """Return the page's text."""
    listeners = results["listeners"]
    return TEXT.format(
        **{key: results[key] for key in ("date", "seed", "machine", "load_before", "load_after")},
        inputs=results["inputs"],
        bound=P99_MS_MAX,
        listeners="\n".join(_listener(one) for one in listeners),
        witnesses="\n".join(
            (
                *(_witness("nothing", call, one) for call, one in results["quiet"].items()),
                *(
                    _witness(tally["listener"], call, one)
                    for tally in listeners
                    for call, one in tally["witnesses"].items()
                ),
            )
        ),
        verdict=_verdict(results),
    )


def _listener(tally: Mapping[str, Any]) -> str:
    labels = sorted(tally["labels"].items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{label} {count:,}" for label, count in labels)
    rate = tally["inputs"] / max(tally["seconds"], 0.001)
    found = f"**{tally['found']}**" if tally["found"] else "0"
    return f"| {tally['listener']} | {tally['inputs']:,} | {rate:,.0f} | {found} | {told} |"


def _witness(phase: str, call: str, one: Mapping[str, Any]) -> str:
    held = "yes" if one["p99_ms"] < P99_MS_MAX and not one["failed"] else "**no**"
    return (
        f"| {phase} | {call} | {one['calls']:,} | {one['failed']} | {one['p50_ms']:g} ms"
        f" | {one['p99_ms']:g} ms | {held} |"
    )


def _verdict(results: Mapping[str, Any]) -> str:
    found = sum(tally["found"] for tally in results["listeners"])
    told = f"Found: {found}." if found else "Nothing was found."
    if results["inputs"] < INPUTS:
        told += f" This run had fewer than {INPUTS:,} inputs."
    return told
