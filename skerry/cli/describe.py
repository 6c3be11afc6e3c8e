"""`skerry describe KIND NAME`: one thing with all that is around it, for people."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import UsageFault, session_of

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.operator import OperatorClient
    from skerry.client.rows import PlaneRow
    from skerry.fleet.deployment import Revision
    from skerry.fleet.routing import Routing

KINDS = ("plane", "pool", "node", "deployment", "replica", "plan")
CHANGES_SHOWN = 10
CHANGES_SEARCHED = 1_000  # of the newest; what changed longer ago, `skerry get changes` tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of a description: rows of a kind that `get` knows, or lines of text."""

    title: str
    kind: str = ""
    rows: Sequence[Any] = ()
    lines: Sequence[str] = ()


def describe(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
) -> None:
    """Show one thing with what it is made of, what runs there, and what changed last."""
    singular = kind.lower().removesuffix("s")
    if singular not in KINDS:
        raise UsageFault(f"there is no kind {kind!r} to describe; take one of {', '.join(KINDS)}")
    session = session_of(context)
    with session.operator() as client:
        sections = list(_SECTIONS[singular](client, name))
    for section in sections:
        print_section(session.console(), section)


def print_section(console: "Console", section: Section) -> None:
    """Print a section; one without rows and lines says so."""
    from skerry.cli.render import COLUMNS, render_table
    from skerry.plumbing.logs import escape_controls

    console.print(section.title, style="bold")
    if section.rows:
        console.print(render_table(COLUMNS[section.kind], section.rows))
    for line in section.lines:
        console.print(f"  {escape_controls(line)}")
    if not section.rows and not section.lines:
        console.print("  none", style="dim")


def _plane(client: "OperatorClient", name: str) -> Iterator[Section]:
    row = client.get_plane(name)
    since = f" since {row.since.astimezone():%Y-%m-%d %H:%M:%S %Z}" if row.since else ""
    labels = ", ".join(f"{key}={value}" for key, value in row.identity.labels)
    yield Section(
        title=f"plane {name}",
        kind="planes",
        rows=(row,),
        lines=(
            f"{row.state}{since}: {row.reason}",
            *((f"refused: {row.nack}",) if row.nack else ()),
            *row.gateway_faults,
            f"zone: {row.identity.zone or '-'}",
            f"residency zones: {', '.join(row.identity.residency_zones) or '-'}",
            f"labels: {labels or '-'}",
        ),
    )
    yield _cordons(client, row)
    yield _listed(client, "pools", f'plane = "{name}"')
    yield _listed(client, "nodes", f'plane = "{name}"')
    yield _listed(client, "placements", f'plane = "{name}"')
    yield _listed(client, "replicas", f'plane = "{name}"')
    yield _changes(client, f"planes/{name}")


def _pool(client: "OperatorClient", name: str) -> Iterator[Section]:
    from skerry.client.catalogue_calls import RESERVATIONS
    from skerry.client.operator_calls import Which

    row = client.get_pool(name)
    yield Section(title=f"pool {name}", kind="pools", rows=(row,))
    yield _listed(client, "nodes", f'pool = "{name}"')
    yield _listed(client, "placements", f'pool = "{name}"')
    yield _listed(client, "prices", f'pool = "{name}"')
    reserved = client.list_entries(RESERVATIONS, Which(passes=f'pool = "{name}"'))
    yield Section(title="reservations", kind="reservations", rows=reserved)
    yield _changes(client, f"pools/{name}")


def _node(client: "OperatorClient", name: str) -> Iterator[Section]:
    row = client.get_node(name)
    yield Section(title=f"node {name}", kind="nodes", rows=(row,))
    running = set(row.replicas)
    mine = [replica for replica in _of(client, "replicas", row.plane) if replica.name in running]
    yield Section(title="replicas", kind="replicas", rows=mine)
    yield _changes(client, f"nodes/{name}")


def _deployment(client: "OperatorClient", name: str) -> Iterator[Section]:
    from skerry.cli.render import render_yaml, shortage

    row = client.get_deployment(name)
    yield Section(
        title=f"deployment {name}",
        kind="deployments",
        rows=(row,),
        lines=(
            *(f"pending: {why}" for why in (*row.pending, *shortage(row))),
            _routing(row.deployment.routing),
            *_rollout(client, name),
            *_measured(client, row.deployment.revision),
        ),
    )
    yield Section(title="file", lines=render_yaml(row).splitlines())
    yield _listed(client, "placements", f'deployment = "{name}"')
    yield _listed(client, "replicas", f'observed.deployment = "{name}"')
    yield Section(title="revisions", kind="revisions", rows=client.list_revisions(name))
    yield _changes(client, f"deployments/{name}")


def _rollout(client: "OperatorClient", name: str) -> Iterator[str]:
    from skerry.client.rollouts import sentence_of
    from skerry.plumbing.errors import NotFound

    with contextlib.suppress(NotFound):  # just applied, or deleted
        yield f"rollout: {sentence_of(client.get_rollout(name))}"


def _routing(routing: "Routing") -> str:
    waits = (
        f"up to {routing.queue_requests_max} requests wait {routing.queue_seconds_max:g} s at most"
        if routing.queue_requests_max
        else "none waits"
    )
    broken = "go on elsewhere" if routing.continuation else "end with an error"
    return f"routing: {routing.policy.value}; {waits}; broken streams {broken}"


def _measured(client: "OperatorClient", revision: "Revision") -> Iterator[str]:
    """Yield what `skerry profile` measured of each shape, at the deployment's own objective."""
    from skerry.client.catalogue_calls import PROFILES
    from skerry.client.operator_calls import Which
    from skerry.fleet.profile import configuration_digest, profile_key

    keys = {profile_key(revision, shape).name: shape for shape in revision.shapes}
    alike = Which(passes=f'configuration = "{configuration_digest(revision.engine)}"')
    for entry in client.list_entries(PROFILES, alike):
        if (shape := keys.get(entry.name)) is None:
            continue
        step = entry.value.step_within(revision.objective)
        in_time = (
            f"{step.output_tokens_per_second:,.1f} tokens/s in time" if step else "not in time"
        )
        said = "; the deployment says its own" if shape.throughput_tokens_per_second else ""
        yield (
            f"measured: {in_time}, at most {entry.value.peak_tokens_per_second:,.1f} tokens/s on"
            f" {shape.accelerators} x {shape.accelerator} (profile {entry.name}){said}"
        )


def _replica(client: "OperatorClient", name: str) -> Iterator[Section]:
    from skerry.client.operator import find_row

    row = find_row(client.list_replicas(), name, "replica")
    seen = row.observed
    yield Section(
        title=f"replica {name}",
        kind="replicas",
        rows=(row,),
        lines=(
            f"revision: {seen.revision}",
            f"pool: {seen.pool}",
            f"nodes: {', '.join(seen.nodes) or '-'}",
            f"gRPC: {seen.grpc or '-'}",
            f"engine's process: {seen.engine_pid or '-'}",
            f"started in: {f'{seen.start_seconds:.1f} s' if seen.start_seconds else '-'}",
        ),
    )
    yield _listed(client, "deployments", f'spec.name = "{seen.deployment}"')


def _plan(client: "OperatorClient", name: str) -> Iterator[Section]:
    from skerry.client.operator import find_row

    row = find_row(client.list_plans(), name, "plan")
    preview = client.get_plan(int(row.name))
    yield Section(
        title=f"plan {name}",
        kind="plans",
        rows=(row,),
        lines=(
            *(f"{u.deployment}: {u.replicas} have no place: {u.reason}" for u in preview.unplaced),
            *(
                f"level {level.level}: {level.value:g} {level.unit}, at least {level.bound:g}"
                for level in preview.levels
            ),
        ),
    )


def _listed(client: "OperatorClient", kind: str, passes: str) -> Section:
    from skerry.client.operator_calls import Which

    found = getattr(client, f"list_{kind}")(Which(passes=passes))
    return Section(title=kind, kind=kind, rows=found)


def _of(client: "OperatorClient", kind: str, plane: str) -> Sequence[Any]:
    return _listed(client, kind, f'plane = "{plane}"').rows


def _cordons(client: "OperatorClient", plane: "PlaneRow") -> Section:
    """Return the cordons that close the plane, or a pool or a node of it."""
    from skerry.fleet.cordon import names_of
    from skerry.fleet.names import SEPARATOR

    around = {f"{scope.value}s/{name}" for scope, name in names_of(plane.identity).items()}
    inside = tuple(f"{kind}/{plane.name}{SEPARATOR}" for kind in ("pools", "nodes"))
    found = [c for c in client.list_cordons() if c.name in around or c.name.startswith(inside)]
    return Section(title="cordons", kind="cordons", rows=found)


def _changes(client: "OperatorClient", subject: str) -> Section:
    found = [
        change
        for change in client.latest_changes(CHANGES_SEARCHED)
        if change.subject.endswith(f"/{subject}")
    ]
    return Section(title="changes", kind="changes", rows=found[-CHANGES_SHOWN:])


_SECTIONS = {
    "plane": _plane,
    "pool": _pool,
    "node": _node,
    "deployment": _deployment,
    "replica": _replica,
    "plan": _plan,
}
