"""`skerry schedule FILE`: place a problem from a file or ask about it, with no control plane.

Reads the format `skerry-placement-v0` (JSON, gzipped or not) and prints the plan, the bound of each
level and the prices of scarce pools, so that anyone can check the scheduler on their own case.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli import hypotheses
from skerry.cli.questions import check_output
from skerry.cli.session import Session, UsageFault, session_of
from skerry.plumbing.errors import InvalidInput

if TYPE_CHECKING:
    from scheduler.plan import PlacementPlan
    from scheduler.problem import DemandedDeployment, PlacementProblem
    from skerry.client.questions import Hypothesis
    from skerry.fleet.pool import Pool

FORMAT = "skerry-placement-v0"
FILE_BYTES_MAX = 256 * 2**20  # unpacked; the million accelerators of the benchmarks take 40 MiB
ROWS_SHOWN_MAX = 20  # of a table for people; `-o json` has all
GIB = 2**30
# A deployment that runs on nothing still is a demand: it is told as unmet.
NO_ACCELERATOR = "none"

Mapped = Mapping[str, Any]


def schedule(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=f"A problem in the format {FORMAT}.")],
    explain: Annotated[
        str | None, typer.Option("--explain", help="Say why this deployment is where it is.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", help="With --explain: why there, or why not there.")
    ] = None,
    what_if: Annotated[
        list[str] | None, typer.Option("--what-if", help=hypotheses.WHAT_IF_HELP)
    ] = None,
    survive: Annotated[
        bool, typer.Option("--survive", help="Show what the loss of each domain leaves.")
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Place a problem from a file, or ask about it; print the plan, its bound and its levels."""
    check_output(output)
    if sum((explain is not None, bool(what_if), survive)) > 1:
        raise UsageFault("ask one thing at a time: --explain, --what-if or --survive")
    if pool is not None and explain is None:
        raise UsageFault("--pool goes with --explain DEPLOYMENT")
    changes = hypotheses.read_named(what_if or ())
    problem = read_problem(read_file(file), str(file))
    session = session_of(context)
    if explain is not None:
        _explain(session, problem, (explain, pool), output)
    elif changes:
        _what_if(session, problem, changes, output)
    elif survive:
        _survive(session, problem, output)
    else:
        _place(session, problem, output)


def _place(session: Session, problem: "PlacementProblem", output: str) -> None:
    from scheduler.solve import solve
    from skerry.plumbing.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic()
    plan = solve(problem)
    seconds = clock.monotonic() - began
    if output == "json":
        typer.echo(json.dumps({**describe_plan(plan), "seconds": round(seconds, 3)}, indent=1))
    else:
        _print_tables(session.console(), plan, seconds)


def _explain(
    session: Session, problem: "PlacementProblem", asked: tuple[str, str | None], output: str
) -> None:
    from skerry.cli.answers import print_explanation
    from skerry.cli.offline import FileQuestions
    from skerry.cli.render import render_json

    found = FileQuestions(problem=problem).explain(*asked)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_explanation(session.console(), found)


def _what_if(
    session: Session,
    problem: "PlacementProblem",
    changes: tuple["Hypothesis", ...],
    output: str,
) -> None:
    from skerry.cli.answers import print_consequences
    from skerry.cli.offline import FileQuestions
    from skerry.cli.render import render_json

    found = FileQuestions(problem=problem).what_if(changes)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_consequences(session.console(), changes, found)


def _survive(session: Session, problem: "PlacementProblem", output: str) -> None:
    from skerry.cli.answers import print_losses
    from skerry.cli.offline import FileQuestions
    from skerry.cli.render import render_json

    found = FileQuestions(problem=problem).survive()
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_losses(session.console(), found)


def read_file(path: Path) -> Mapped:
    """Return the JSON of a file; InvalidInput says what is wrong with it."""
    try:
        with path.open("rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
            opened.seek(0)
            stream = gzip.GzipFile(fileobj=opened) if packed else opened
            text = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path}: {error}") from None
    if len(text) > FILE_BYTES_MAX:
        raise InvalidInput(f"{path}: more than {FILE_BYTES_MAX} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InvalidInput(f"{path}: the format must be {FORMAT}")
    return values


def read_problem(values: Mapped, source: str) -> "PlacementProblem":
    """Return the problem of a file's values; InvalidInput names what is missing or out of range.

    What is listed as eligible is not filtered by the memory of nodes: the scheduler does that.
    """
    from datetime import UTC, datetime

    from scheduler.problem import PlacementProblem

    try:
        pools = tuple(_pool(pool) for pool in values["pools"])
        names = {pool["id"]: made.name for pool, made in zip(values["pools"], pools, strict=True)}
        demands = tuple(_demand(wanted, names) for wanted in values["deployments"])
        return PlacementProblem(
            now=datetime(2026, 1, 1, tzinfo=UTC),
            pools=pools,
            demands=demands,
            move_cost_dollars=0.0,
            reserved_price_share=1.0,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInput(f"{source}: {fault}") from None


def _pool(values: Mapped) -> "Pool":
    from skerry.fleet.pool import CapacityClass, PlaneIdentity, Pool, PoolShape, PoolTerms

    plane = f"plane-{int(values['plane']):04d}"
    return Pool(
        plane=PlaneIdentity(name=plane, cloud=plane, region=plane),
        shape=PoolShape(
            name=f"pool-{int(values['id']):05d}",
            accelerator=str(values["gpu"]),
            accelerator_memory_bytes=0,
            nodes=int(values["nodes"]),
            accelerators_per_node=int(values["gpus_per_node"]),
            host_memory_bytes=round(values["host_mem_gib_per_node"] * GIB),
        ),
        terms=PoolTerms(
            capacity_class=CapacityClass(values["market"]),
            price_per_accelerator_hour=float(values["price_gpu_hour"]),
        ),
    )


def _demand(values: Mapped, names: Mapping[int, str]) -> "DemandedDeployment":
    from scheduler.problem import DemandedDeployment
    from skerry.fleet import deployment as fleet
    from skerry.fleet.engine import EngineName, EngineSpec

    name, keep = f"d-{int(values['id']):06d}", float(values["survive_any_plane_loss_share"])
    shapes = [
        fleet.ResourceShape(
            accelerator=kind,
            accelerators=int(config["tp"]),
            host_memory_bytes=round(values["host_mem_gib"] * GIB),
            throughput_tokens_per_second=float(config["throughput"]),
        )
        for kind, config in sorted(values["configs"].items())
    ]
    nowhere = fleet.ResourceShape(accelerator=NO_ACCELERATOR, throughput_tokens_per_second=1.0)
    return DemandedDeployment(
        deployment=fleet.Deployment(
            name=name,
            revision=fleet.Revision(
                number=1,
                base_model=fleet.BaseModel(uri="builtin://skerry-tiny", served_name=name),
                engine=EngineSpec(name=EngineName.SIMULATED),
                shapes=tuple(shapes) or (nowhere,),
            ),
            scaling=fleet.Scaling(min_replicas=0, max_replicas=fleet.REPLICAS_MAX),
            policy=fleet.PlacementPolicy(
                priority=int(values["priority"]),
                spot_share_max=float(values["spot_share_max"]),
                tolerate=(
                    fleet.Tolerate(domain=fleet.FailureDomain.PLANE, keep=keep) if keep else None
                ),
            ),
        ),
        tokens_per_second=float(values["demand"]),
        pools=tuple(names[pool] for pool in values["eligible_pools"]),
    )


def describe_plan(plan: "PlacementPlan") -> dict[str, Any]:
    """Return a plan as plain values: what is decided, what is proven, and what is not placed."""
    return {
        "format": "skerry-plan-v0",
        "solver": plan.solver,
        "solver_reason": plan.solver_reason,
        "optimal": plan.optimal,
        "cost_per_hour": round(plan.cost_per_hour, 6),
        "levels": [
            {
                "level": level.level,
                "value": level.value,
                "bound": level.bound,
                "gap": round(level.gap, 6),
                "unit": level.unit,
            }
            for level in plan.levels
        ],
        "placements": [
            {
                "deployment": p.deployment,
                "pool": p.pool,
                "replicas": p.count,
                "ceiling": e.ceiling,
                "reason": p.reason,
            }
            for p, e in zip(plan.placements, plan.envelopes, strict=True)
        ],
        "unplaced": [
            {"deployment": u.deployment, "replicas": u.replicas, "reason": u.reason}
            for u in plan.unplaced
        ],
        "shed": [
            {
                "deployment": s.deployment,
                "pool": s.pool,
                "replicas": s.replicas,
                "taken_by": list(s.taken_by),
                "reason": s.reason,
            }
            for s in plan.shed
        ],
        "prices": {price.pool: price.dollars_per_hour for price in plan.prices},
    }


def _print_tables(console: Any, plan: "PlacementPlan", seconds: float) -> None:
    replicas = sum(placement.count for placement in plan.placements)
    console.print(
        f"{replicas} replicas in {len(plan.placements)} placements,"
        f" ${plan.cost_per_hour:,.2f}/h, {sum(u.replicas for u in plan.unplaced)} replicas"
        f" unplaced; solver {plan.solver}{', proven optimal' if plan.optimal else ''},"
        f" {seconds:.2f} s"
    )
    if plan.solver_reason:
        console.print(plan.solver_reason, markup=False)
    levels = [
        (v.level, f"{v.value:,.6g}", f"{v.bound:,.6g}", f"{v.gap:.2%}", v.unit) for v in plan.levels
    ]
    _print_table(console, ("LEVEL", "VALUE", "BOUND", "GAP", "UNIT"), levels)
    placed = [(p.deployment, p.pool, str(p.count), p.reason) for p in plan.placements]
    _print_table(console, ("DEPLOYMENT", "POOL", "REPLICAS", "REASON"), placed)
    prices = [(p.pool, f"{p.dollars_per_hour:.4f}") for p in plan.prices]
    _print_table(console, ("SCARCE POOL", "ONE MORE ACCELERATOR IS WORTH USD/h"), prices)
    unplaced = [(u.deployment, str(u.replicas), u.reason) for u in plan.unplaced]
    _print_table(console, ("UNPLACED", "REPLICAS", "REASON"), unplaced)


def _print_table(console: Any, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(*titles, box=None, pad_edge=False, header_style="")
    for row in rows[:ROWS_SHOWN_MAX]:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    if len(rows) > ROWS_SHOWN_MAX:
        console.print(f"and {len(rows) - ROWS_SHOWN_MAX} more; `-o json` has all")
