"""Rows as tables for people, and as JSON or YAML for programs.

`skerry get` and the others print through it; what a server sent is shown as plain text.
"""

import dataclasses
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from skerry.client import rows
from skerry.fleet.answers import Quantiles
from skerry.fleet.catalogue import Region
from skerry.plumbing.logs import escape_controls

if TYPE_CHECKING:
    from rich.table import Table

Columns = tuple[tuple[str, Callable[[Any], object]], ...]


class Format(enum.StrEnum):
    """How `get` prints."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def _placed(row: rows.PoolRow) -> str:
    return f"{row.accelerators_placed}/{row.shape.accelerators}" if row.shape else "-"


def _price(row: rows.PoolRow) -> str:
    price = row.terms.price_per_accelerator_hour
    return "not told" if price is None else f"{price:.3f}"


def _witnesses(row: rows.PlaneRow) -> str:
    return ", ".join(f"{view.plane}: {view.verdict}" for view in row.witnesses)


def _bytes(count: int) -> str:
    return "-" if not count else f"{count / 2**30:.1f} GiB"


def _minute(moment: datetime) -> str:
    """Return a time in the reader's zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _latencies(row: rows.EntryRow[Region]) -> str:
    told = row.value.client_latency_seconds
    return ", ".join(f"{client} {seconds * 1000:g} ms" for client, seconds in told) or "-"


def _quantiles(told: Quantiles | None, factor: float) -> str:
    if told is None:
        return "-"
    found = (told.p50_seconds, told.p95_seconds, told.p99_seconds)
    return " / ".join(f"{seconds * factor:.3g}" for seconds in found)


def _registered(row: rows.EntryRow[Any]) -> str:
    return "yes" if row.created_at else "no"


def _envelope(row: rows.PlacementRow) -> str:
    bounds = row.envelope
    return f"{bounds.floor}/{bounds.target}/{bounds.ceiling}" if bounds else "-"


COLUMNS: Mapping[str, Columns] = {
    "planes": (
        ("NAME", lambda r: r.name),
        ("CLOUD", lambda r: r.identity.cloud),
        ("REGION", lambda r: r.identity.region),
        ("STATE", lambda r: r.state),
        ("DESIRED", lambda r: r.desired),
        ("HELD", lambda r: r.held),
        ("GATEWAY", lambda r: r.gateway.http),
        ("WITNESSES", _witnesses),
        ("REASON", lambda r: r.nack or "; ".join(r.gateway_faults) or r.reason),
    ),
    "pools": (
        ("NAME", lambda r: r.name),
        ("PLANE", lambda r: r.plane),
        ("ACCELERATOR", lambda r: r.shape.accelerator if r.shape else "not reported yet"),
        ("PLACED", _placed),
        ("CLASS", lambda r: r.terms.capacity_class),
        ("USD/H EACH", _price),
        ("CORDONED", lambda r: "yes" if r.terms.cordoned else "no"),
    ),
    "deployments": (
        ("NAME", lambda r: r.name),
        ("MODEL", lambda r: r.deployment.revision.base_model.served_name),
        ("ENGINE", lambda r: r.deployment.revision.engine.name),
        ("REVISION", lambda r: r.deployment.revision.number),
        ("READY", lambda r: f"{r.replicas_ready}/{r.replicas_wanted}"),
        ("PLACED", lambda r: r.replicas_placed),
        ("USD/H", lambda r: f"{r.cost_per_hour:.3f}"),
        ("NEEDED", lambda r: "-" if r.replicas_needed is None else r.replicas_needed),
        ("PENDING", lambda r: "being deleted" if r.deleting else "; ".join(_pending(r))),
    ),
    "placements": (
        ("DEPLOYMENT", lambda r: r.deployment),
        ("POOL", lambda r: r.pool),
        ("REPLICAS", lambda r: r.replicas),
        ("READY", lambda r: r.replicas_ready),
        ("FLOOR/TARGET/CEILING", _envelope),
        ("USD/H", lambda r: f"{r.cost_per_hour:.3f}"),
        ("REASON", lambda r: r.reason),
    ),
    "nodes": (
        ("NAME", lambda r: r.name),
        ("POOL", lambda r: r.pool),
        ("STATE", lambda r: "draining" if r.draining else "cordoned" if r.cordoned else r.state),
        ("USED", lambda r: f"{r.accelerators_used}/{r.accelerators}"),
        ("REPLICAS", lambda r: ", ".join(r.replicas)),
        ("MESSAGE", lambda r: r.message),
    ),
    "control-planes": (
        ("NAME", lambda r: r.name),
        ("ROLE", lambda r: r.role),
        ("EPOCH", lambda r: r.epoch or "-"),
        ("ADDRESS", lambda r: r.address),
        ("SINCE", lambda r: _minute(r.since)),
        ("SOFTWARE", lambda r: r.software),
    ),
    "replicas": (
        ("NAME", lambda r: r.name),
        ("DEPLOYMENT", lambda r: r.observed.deployment),
        ("PLANE", lambda r: r.plane),
        ("STATE", lambda r: r.observed.state),
        ("RESTARTS", lambda r: r.observed.restarts),
        ("PID", lambda r: r.observed.pid or "-"),
        ("HTTP", lambda r: r.observed.http),
        ("REPORTED", lambda r: f"{r.report_age_seconds:.1f} s ago"),
        ("MESSAGE", lambda r: r.observed.message),
    ),
    "rollouts": (
        ("DEPLOYMENT", lambda r: r.name),
        ("REVISION", lambda r: r.revision),
        ("BEFORE", lambda r: r.stable_revision or "-"),
        ("STATE", lambda r: r.state.replace("_", " ")),
        ("SINCE", lambda r: _minute(r.since)),
        ("PLANE", lambda r: r.plane or "-"),
        ("DONE", lambda r: ", ".join(r.planes_done)),
        ("REASON", lambda r: r.reason),
    ),
    "service-levels": (
        ("DEPLOYMENT", lambda r: r.name),
        ("TTFT", lambda r: f"{r.ttft_seconds:g} s"),
        ("P50/P95/P99", lambda r: _quantiles(r.first_token, 1.0)),
        ("ITL", lambda r: f"{r.tpot_seconds * 1000:g} ms"),
        ("P50/P95/P99 (MS)", lambda r: _quantiles(r.interval, 1000.0)),
        ("WITHIN", lambda r: "-" if (a := r.attainment) is None else f"{100 * a:.1f} %"),
        ("HEARD", lambda r: _minute(r.heard_at) if r.heard_at else "-"),
        ("SILENT", lambda r: ", ".join(r.silent_planes)),
    ),
    "plans": (
        ("PLAN", lambda r: r.name),
        ("STATE", lambda r: r.state),
        ("DECIDED", lambda r: _minute(r.decided_at)),
        ("USD/H", lambda r: f"{r.cost_per_hour:.3f}"),
        ("SOLVER", lambda r: r.solver),
        ("SUMMARY", lambda r: r.summary),
    ),
    "revisions": (
        ("REVISION", lambda r: r.revision.number),
        ("CURRENT", lambda r: "yes" if r.current else ""),
        ("CREATED", lambda r: _minute(r.created_at)),
        ("MODEL", lambda r: r.revision.base_model.uri),
        ("ENGINE", lambda r: r.revision.engine.name),
        ("ACCELERATORS", lambda r: ", ".join(s.accelerator for s in r.revision.shapes)),
    ),
    "accelerator-kinds": (
        ("NAME", lambda r: r.name),
        ("VENDOR", lambda r: r.value.vendor),
        ("MEMORY", lambda r: _bytes(r.value.memory_bytes)),
        ("DESCRIPTION", lambda r: r.value.description),
    ),
    "base-models": (
        ("NAME", lambda r: r.name),
        ("URI", lambda r: r.value.uri),
        ("WEIGHTS", lambda r: _bytes(r.value.weight_bytes)),
        ("SHA256", lambda r: r.value.sha256[:12]),
        ("DESCRIPTION", lambda r: r.value.description),
    ),
    "reservations": (
        ("NAME", lambda r: r.name),
        ("POOL", lambda r: r.value.pool),
        ("USD/H EACH", lambda r: f"{r.value.price_per_accelerator_hour:.3f}"),
        ("FROM", lambda r: _minute(r.value.start_time)),
        ("TO", lambda r: _minute(r.value.end_time)),
        ("DESCRIPTION", lambda r: r.value.description),
    ),
    "clouds": (
        ("NAME", lambda r: r.name),
        ("REGISTERED", _registered),
        ("PLANES", lambda r: ", ".join(r.planes)),
        ("DESCRIPTION", lambda r: r.value.description),
    ),
    "regions": (
        ("NAME", lambda r: r.name),
        ("REGISTERED", _registered),
        ("PLANES", lambda r: ", ".join(r.planes)),
        ("LATENCY FROM", _latencies),
        ("DESCRIPTION", lambda r: r.value.description),
    ),
    "profiles": (
        ("NAME", lambda r: r.name),
        ("MODEL", lambda r: r.value.base_model),
        ("ENGINE", lambda r: f"{r.value.engine} {r.value.engine_version}".strip()),
        ("ACCELERATOR", lambda r: f"{r.value.accelerators} x {r.value.accelerator}"),
        ("CONCURRENCY", lambda r: ",".join(str(step.concurrency) for step in r.value.steps)),
        ("PEAK TOKENS/S", lambda r: f"{r.value.peak_tokens_per_second:,.1f}"),
        ("LOADED IN", lambda r: f"{s:.1f} s" if (s := r.value.load_seconds) else "-"),
        ("MEASURED", lambda r: _minute(r.value.measured_at)),
    ),
    "prices": (
        ("POOL", lambda r: r.pool),
        ("FROM", lambda r: _minute(r.valid_from)),
        ("USD/H EACH", lambda r: f"{r.price_per_accelerator_hour:.3f}"),
    ),
    "cordons": (
        ("NAME", lambda r: r.name),
        ("STATE", lambda r: "draining" if r.draining else "cordoned"),
        ("SINCE", lambda r: _minute(r.since)),
        ("ACTOR", lambda r: r.actor),
        ("REASON", lambda r: r.reason),
    ),
    "changes": (
        ("SEQUENCE", lambda r: r.sequence),
        ("TIME", lambda r: f"{r.time.astimezone():%Y-%m-%d %H:%M:%S %Z}"),
        ("ACTOR", lambda r: r.actor),
        ("KIND", lambda r: r.kind),
        ("SUBJECT", lambda r: r.subject),
        ("SUMMARY", lambda r: r.summary),
    ),
}


def render_table(columns: Columns, found: Sequence[object]) -> "Table":
    """Return the rows as a table without lines."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title, _ in columns:
        table.add_column(title, overflow="fold")
    for row in found:
        table.add_row(*(Text(escape_controls(str(cell(row)))) for _, cell in columns))
    return table


def render_json(value: object) -> str:
    """Return rows, or one row, as JSON with two spaces of indentation."""
    return json.dumps(to_plain(value), indent=2)


def render_yaml(value: object) -> str:
    """Return rows, or one row, as YAML; deployments as files that can be applied again."""
    import yaml

    from skerry.client.manifest_rendering import render_text

    many = value if isinstance(value, list | tuple) else [value]
    deployments = [row.deployment for row in many if isinstance(row, rows.DeploymentRow)]
    if deployments:
        return render_text(deployments).strip()
    return str(yaml.safe_dump(to_plain(value), sort_keys=False, allow_unicode=True)).strip()


def to_plain(value: object) -> Any:
    """Return a value as what JSON knows: enums and versions as text, times in ISO 8601."""
    from skerry.client.manifest_rendering import render_manifest
    from skerry.fleet.generation import Version

    if isinstance(value, rows.DeploymentRow):
        status = {
            field.name: to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in ("deployment", "etag")
        }
        status["revision"] = value.deployment.revision.number
        return {**render_manifest(value.deployment), "status": status}
    if isinstance(value, Version):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": value.name, **plain} if hasattr(value, "name") else plain
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def _pending(row: Any) -> tuple[str, ...]:
    return (*row.pending, *shortage(row))


def shortage(row: Any) -> tuple[str, ...]:
    """Return what load asks for in vain and what it would cost; nothing where all has a place."""
    if not row.replicas_short:
        return ()
    price = row.short_dollars_per_hour
    dollars = "" if price is None else f" (${price:,.2f} an hour)"
    return (f"{row.replicas_short} more for its load find no free accelerators{dollars}",)
