"""docs/operating/gateway.md says what the gateway does: its tables against the code."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from skerry.fleet.engine import EngineName
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
)
from workload_plane.gateway import clusters, draining, listeners, outliers, resources, wire
from workload_plane.gateway.abilities import lacking_paths
from workload_plane.gateway.resources import build_snapshot

PAGE = Path(__file__).parents[4] / "docs" / "operating" / "gateway.md"
TEXT = " ".join(PAGE.read_text().split())


def rows_below(heading: str) -> list[list[str]]:
    """Return the rows of the first table that begins with that head."""
    lines = PAGE.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def codes_in(value: Any) -> set[str]:
    """Return every `code` of an error anywhere inside."""
    if isinstance(value, dict):
        error = value.get("error")
        own = {error["code"]} if isinstance(error, dict) else set()
        return own.union(*(codes_in(inner) for inner in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(codes_in(inner) for inner in value))
    return set()


def test_every_error_code_is_on_the_page_and_no_other() -> None:
    refusing = {"refuses_tools": True, "guarded": True, "lacks": ("embeddings",)}
    model = a_model("chat", a_replica("r1"), peers=("b",))
    tokens = replace(a_model("tokens", a_replica("r2", port=9100)), serves_trtllm=True)
    out = replace(a_model("out"), listed=False, outside_of=("eu",))
    topology = a_topology(type(model)(**{**fields_of(model), **refusing}), tokens, out)
    topology = replace(topology, api_keys=())
    snapshot = build_snapshot(topology, "/gateway", DESCRIPTOR_SET)
    told = codes_in((snapshot.listeners, snapshot.routes))
    # Errors of filters are inside their code.
    told |= set(re.findall(r'\\+"code\\+": *\\+"(\w+)', json.dumps(snapshot.routes)))
    of_the_picker = {"queue_full", "replicas_busy", "request_quarantined"}
    told = told | of_the_picker | {"concurrency_limit_exceeded", "insufficient_quota"}
    assert told == {row[1].strip("`") for row in rows_below("status")}


def fields_of(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.__slots__}


def test_what_each_engine_has_not_is_as_the_page_says() -> None:
    listed = {
        row[0].strip("`"): () if row[1] == "-" else tuple(row[1].split(", "))
        for row in rows_below("engine")
    }
    assert listed == {name.value: lacking_paths(name) for name in EngineName}


def per_cent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def test_the_pages_figures_are_the_codes() -> None:
    mib, gib = 2**20, 2**30
    headers = (listeners._HEADERS_KIB_MAX, listeners._HEADERS_MAX)
    seconds = (listeners._HEADERS_SECONDS, listeners._REQUEST_SECONDS)
    errors = (outliers.ERRORS_IN_A_ROW, outliers.GATEWAY_ERRORS_IN_A_ROW)
    heap, reset = resources._HEAP_BYTES_MAX // gib, per_cent(resources._RESET_FROM_FRACTION)
    for words in (
        f"{wire.BODY_BYTES_MAX // mib} MiB, held in memory",
        "headers of more than {} KiB, or more than {}".format(*headers),
        f"cut after {listeners._REQUEST_ID_CHARACTERS_MAX} characters",
        "headers took more than {:g} s, or the whole request more than {:g} s".format(*seconds),
        f"closed after {listeners._CLIENT_IDLE_SECONDS:g} s",
        f"{resources.CONNECTIONS_MAX:,}, of clients;",
        f"sends nothing | closed after {listeners._FIRST_WORD_SECONDS:g} s",
        f"{heap} GiB: from {reset} on",
        f"at {per_cent(resources._HEAP_REFUSE_FRACTION)} new ones",
        f"{wire.STREAMS_PER_CONNECTION_MAX:,}; a client",
        "after {} errors (5xx) in a row, or {} of".format(*errors),
        f"lasts {outliers.EJECTION_SECONDS:g} s",
        f"at least {clusters._RETRIES_MIN})",
        f"{draining.DRAIN_SECONDS_MAX:g} s at most (`--seconds`)",
    ):
        assert words in TEXT, words
