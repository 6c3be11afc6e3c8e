"""The page and the plot of the routing benchmark, from its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PLOT = "routing-ttft.png"
PICKER, SESSION, ORACLE = "picker: prefix_tokens", "session_hash", "exact_kv_aware"
# From the issue.
TTFT_SHARE_MAX, HIT_SHARE_MIN = 0.6, 0.9
# Shown in the plot, in colours that colour-blind people tell apart.
_LINES = {
    "random": ("#999999", "."),
    "least_request": ("#E69F00", "s"),
    SESSION: ("#CC79A7", "D"),
    "cache_aware (SMG)": ("#009E73", "^"),
    "cache_aware (SGLang)": ("#56B4E9", "v"),
    PICKER: ("#0072B2", "o"),
    ORACLE: ("#000000", "x"),
}
_PAGE = """# Choosing a replica

Made by `make bench-routing` ({machine}). The picker is the gateway's own
(`workload_plane.picker`), told what Envoy tells it, as late as Envoy tells it; the engines are the
simulated engine's batching model with its prefix cache, under a virtual clock.

Trace: {source}, {requests:,} requests in {seconds:,.0f} s as they came. A single cache
without end would have had {shared:.1%} of all prompt tokens. One engine: {prefill:,.0f} prompt
tokens/s, a token each {tpot:.0f} ms, {slots} requests at once, {kv:,} tokens of cache in blocks
of 512.

{aims}

With engines to spare nobody waits, and what is left of the time to the first token is reading what
no cache has: there even the oracle is no better.

![Mean time to the first token by the number of engines]({plot})

{tables}

* *hit* is the part of all prompt tokens that was in the cache of the engine that got the request.
* `random`, `least_request`: of all engines, with an exact count. `session_hash`: an engine by the
  hash of the first 2,048 tokens, the next one while it has more than 1.25 times the mean in flight.
* `cache_aware`: SMG's published rule and defaults (more than 64 requests and 1.5 times apart: the
  least loaded; a known prefix of more than 0.3 of the prompt decides, else the least loaded), and
  SGLang's, which takes the smallest tree instead of the least loaded there. Written anew here from
  their description.
* `exact_kv_aware` knows every engine's cache and queue at every moment, which no gateway does.
* `picker: ...` are the four policies that a deployment can choose.

What it does not show: several gateways that share nothing (each sees a part of the requests),
engines that restart, networks, prompts whose blocks the picker can only guess from bytes. The
engine is one set of figures for a 70B base model on four H100, not a measurement of one.
"""


def write_page(values: Mapping[str, Any], path: Path) -> None:
    """Write the page."""
    engine = values["engine"]
    sizes = sorted({row["engines"] for row in values["rows"]}, reverse=True)
    path.write_text(
        _PAGE.format(
            machine=values["machine"],
            source=values["source"],
            requests=values["requests"],
            seconds=values["seconds"],
            shared=values["shared_share"],
            prefill=engine["prefill_tokens_per_second"],
            tpot=engine["tpot_seconds"] * 1000,
            slots=engine["concurrent_requests"],
            kv=values["kv_cache_tokens"],
            aims=_aims(values, sizes),
            plot=PLOT,
            tables="\n\n".join(_table(values, size) for size in sizes),
        )
    )


def draw(values: Mapping[str, Any], folder: Path) -> None:
    """Write the plot."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    for name, (colour, marker) in _LINES.items():
        rows = sorted(
            (row for row in values["rows"] if row["policy"] == name), key=lambda r: -r["engines"]
        )
        axes.plot(
            [row["engines"] for row in rows],
            [row["ttft_mean"] for row in rows],
            color=colour,
            marker=marker,
            label=name,
        )
    axes.invert_xaxis()
    axes.set_xticks(sorted({row["engines"] for row in values["rows"]}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("engines for the same trace")
    axes.set_ylabel("mean time to the first token, s")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / PLOT, dpi=110)
    plt.close(figure)


def _table(values: Mapping[str, Any], engines: int) -> str:
    lines = [
        f"## {engines} engines",
        "",
        "| policy | hit | mean TTFT s | p50 | p99 | whole answer, mean s | most / least requests |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in values["rows"]:
        if row["engines"] == engines:
            name = f"**{row['policy']}**" if row["policy"] == PICKER else row["policy"]
            lines.append(
                f"| {name} | {row['hit']:.1%} | {row['ttft_mean']:.2f} | {row['ttft_p50']:.2f} |"
                f" {row['ttft_p99']:.1f} | {row['e2e_mean']:.1f} |"
                f" {row['most_per_engine']} / {row['least_per_engine']} |"
            )
    return "\n".join(lines)


def _aims(values: Mapping[str, Any], sizes: list[int]) -> str:
    lines = []
    for engines in sizes:
        rows = {row["policy"]: row for row in values["rows"] if row["engines"] == engines}
        ttft = rows[PICKER]["ttft_mean"] / rows[SESSION]["ttft_mean"]
        bound = rows[ORACLE]["ttft_mean"] / rows[SESSION]["ttft_mean"]
        hit = rows[PICKER]["hit"] / rows[ORACLE]["hit"]
        lines.append(
            f"* {engines} engines: mean TTFT {ttft:.2f} of session hash's (aim {TTFT_SHARE_MAX},"
            f" {_told(ttft <= TTFT_SHARE_MAX)}; the oracle's is {bound:.2f}), hit rate {hit:.0%}"
            f" of the oracle's (aim {HIT_SHARE_MIN:.0%}, {_told(hit >= HIT_SHARE_MIN)})."
        )
    return "\n".join(lines)


def _told(reached: bool) -> str:
    return "reached" if reached else "**missed**"
