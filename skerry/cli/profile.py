"""`skerry profile DEPLOYMENT`: measure what one replica yields, and keep it with the fleet.

The load goes to a replica's own port where that is on this host, else to its plane's gateway.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import Session, UsageFault, session_of, usage
from skerry.plumbing.errors import Infeasible, InvalidInput, NotFound

if TYPE_CHECKING:
    from skerry.client.operator import OperatorClient
    from skerry.client.profile import Measured, ProfilePlan
    from skerry.client.rows import ReplicaRow
    from skerry.fleet.deployment import ResourceShape, Revision
    from skerry.fleet.profile import Profile, ProfileStep

_PROBE_SECONDS_MAX = 2.0  # to find out whose a port is


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured: a replica with its revision and shape, at which address and by what way."""

    replica: "ReplicaRow"
    revision: "Revision"
    shape: "ResourceShape"
    address: str
    is_own: bool
    way: str


def profile(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="The deployment.")],
    plane: Annotated[str, typer.Option("--plane", help="A replica of this plane.")] = "",
    concurrency: Annotated[
        str, typer.Option("--concurrency", help="Requests at once, step by step.")
    ] = "1,2,4,8",
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", help="Of a request.")] = 128,
    output_tokens: Annotated[int, typer.Option("--output-tokens", help="Of a request.")] = 64,
    seconds: Annotated[float, typer.Option("--seconds", help="Of each step.")] = 10.0,
    save: Annotated[bool, typer.Option(help="Keep the figures with the fleet.")] = True,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Measure tokens/s and times of one replica at rising concurrency; keep the figures."""
    from skerry.cli.questions import check_output
    from skerry.client.catalogue_calls import PROFILES
    from skerry.client.profile import ProfilePlan
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds

    check_output(output)
    session = session_of(context)
    with usage():
        plan = ProfilePlan(
            concurrencies=read_levels(concurrency),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            seconds=seconds,
            # Of this run alone: what an earlier one sent, the engine may have in its prefix cache.
            seed=SystemIds(SystemClock()).new_id(),
        )
    with session.operator() as client:
        subject = find_subject(client, deployment, plane)
        _check_context(plan, subject.revision)
        if save:
            asyncio.run(check_engine(subject))
        typer.echo(f"measuring replica {subject.replica.name} {subject.way}", err=True)
        found, measured = _measure(plan, subject)
        if save:
            client.set_entry(PROFILES, found)
    _print(session, subject, found, output)
    if measured.stopped:
        typer.echo(f"warning: {measured.stopped}", err=True)
    kept = "kept" if save else "not kept, as --no-save says"
    typer.echo(f"profile {found.name} {kept}", err=True)


def read_levels(text: str) -> tuple[int, ...]:
    """Return the concurrencies of `1,2,4`; UsageFault for what is no such list."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts):
        raise UsageFault(f"--concurrency {text!r} must look like 1,2,4,8")
    return tuple(int(part) for part in parts)


def find_subject(client: "OperatorClient", deployment: str, plane: str) -> Subject:
    """Return the replica to measure: one on this host, else the only one behind a gateway."""
    from skerry.client.operator_calls import Which
    from skerry.fleet.observation import ReplicaState

    revision = client.get_deployment(deployment).deployment.revision
    _check_protocol(revision)
    passes = f'observed.deployment = "{deployment}"'
    if plane:
        client.get_plane(plane)
        passes += f' AND plane = "{plane}"'
    ready = [
        row
        for row in client.list_replicas(Which(passes=passes))
        if row.observed.state is ReplicaState.READY and row.observed.revision == revision.number
    ]
    if not ready:
        where = f" on plane {plane}" if plane else ""
        raise NotFound(
            f"no replica of deployment {deployment!r} is READY{where} at revision"
            f" {revision.number}; `skerry get replicas` shows them"
        )
    address, replica = _own_port(ready, revision)
    way, is_own = f"at its own port, {address}", bool(address)
    if not is_own:
        replica = _alone(ready)
        gateway = client.get_plane(replica.plane).gateway
        address = gateway.grpc if _is_grpc(revision) else gateway.http
        way = f"through the gateway of plane {replica.plane}, {address}"
    return Subject(
        replica=replica,
        revision=revision,
        shape=_shape(client, replica, revision),
        address=address,
        is_own=is_own,
        way=way,
    )


def _check_protocol(revision: "Revision") -> None:
    """Raise InvalidInput where the engine takes no text."""
    from skerry.fleet.engine import EngineProtocol

    if revision.engine.protocol is EngineProtocol.TRTLLM:
        raise InvalidInput(
            "a profile asks with text, and with `protocol: trtllm` the engine takes tokens only;"
            " profile a deployment that has no `protocol` and all else alike, and write its"
            " figure into `throughputTokensPerSecond`",
            field="spec.engine.protocol",
        )


def _is_grpc(revision: "Revision") -> bool:
    """Return whether the engine serves `openengine.v1` and has no OpenAI HTTP."""
    from skerry.fleet.engine import EngineProtocol

    return revision.engine.protocol is EngineProtocol.OPENENGINE


def _own_port(ready: "Sequence[ReplicaRow]", revision: "Revision") -> "tuple[str, ReplicaRow]":
    """Return the address and row of a replica that runs on this host; no address: none does."""
    import psutil

    own = {one.address for addresses in psutil.net_if_addrs().values() for one in addresses} | {
        "localhost"
    }
    model, is_grpc = revision.base_model.served_name, _is_grpc(revision)
    for row in ready:
        seen = row.observed
        address = seen.grpc if is_grpc else seen.http
        if address.rpartition(":")[0].strip("[]") not in own or not psutil.pid_exists(seen.pid):
            continue
        # A loopback address may be another host's: what answers must serve the model.
        if asyncio.run(_serves(address, model, is_grpc=is_grpc)):
            return address, row
    return "", ready[0]


async def _serves(address: str, model: str, *, is_grpc: bool) -> bool:
    from skerry.cli.known_gateways import served_models
    from skerry.client.gateways import Gateway
    from skerry.client.server_info import server_info
    from skerry.plumbing.errors import Unavailable

    try:
        if is_grpc:
            told = await server_info(address, _PROBE_SECONDS_MAX)
            return not told.models or model in told.models
        return model in await served_models((Gateway(name=address, http=address, grpc=""),))
    except Unavailable:
        return False


def _alone(ready: "Sequence[ReplicaRow]") -> "ReplicaRow":
    """Return a replica that is the only one behind its gateway; Infeasible when none is."""
    planes = [row.plane for row in ready]
    for row in ready:
        if planes.count(row.plane) == 1:
            return row
    raise Infeasible(
        f"no replica runs on this host, and the gateway of plane {planes[0]} spreads requests over"
        f" {planes.count(planes[0])}; run this on the replica's host, or name a --plane with one"
    )


def _shape(client: "OperatorClient", row: "ReplicaRow", revision: "Revision") -> "ResourceShape":
    pool = client.get_pool(row.observed.pool)
    accelerator = pool.shape.accelerator if pool.shape else ""
    shape = revision.shape_on(accelerator)
    if shape is None:
        raise NotFound(
            f"pool {pool.name} has accelerators {accelerator or 'unknown'!r}, of which the"
            " deployment's resources say nothing; wait until its replicas have moved"
        )
    return shape


def _check_context(plan: "ProfilePlan", revision: "Revision") -> None:
    tokens, context = plan.prompt_tokens + plan.output_tokens, revision.engine.context_tokens
    if tokens > context:
        raise UsageFault(
            f"--prompt-tokens and --output-tokens are {tokens} together; the deployment's"
            f" context is {context}"
        )


async def check_engine(subject: Subject) -> None:
    """Raise Infeasible where another engine stands in for the deployment's, or may do so.

    `skerry up --engine simulated` has the simulated engine run whatever is deployed.
    """
    from skerry.fleet.engine import EngineName

    if subject.revision.engine.name is EngineName.SIMULATED:
        return
    name, engine = subject.replica.observed.name, subject.revision.engine.name
    found = await _engine_of(subject)
    if found == EngineName.SIMULATED.value:
        raise Infeasible(
            f"replica {name} runs the simulated engine in place of {engine}, whose figures they"
            " would be taken for; `--no-save` shows them"
        )
    if not found:
        raise Infeasible(
            f"nothing tells from here whether replica {name} runs {engine} or the simulated engine"
            " in its place, and its figures would be kept as those of the former; run this where"
            f" its port {subject.replica.observed.grpc or 'for gRPC'} is reached, on its host at"
            " best, or see them with `--no-save`"
        )


async def _engine_of(subject: Subject) -> str:
    """Return which engine runs, as far as it tells; "" where nobody does."""
    import aiohttp

    from skerry.client.server_info import server_info
    from skerry.fleet.engine import EngineName
    from skerry.plumbing.errors import Unavailable

    seen, is_own = subject.replica.observed, subject.is_own
    if seen.grpc:
        try:
            told = await server_info(seen.grpc, _PROBE_SECONDS_MAX)
        except Unavailable:
            pass
        else:
            # An address of a host's own may be of another replica here.
            if told.engine and (told.instance == seen.name or subject.address == seen.grpc):
                return told.engine
    timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS_MAX)
    engine = subject.revision.engine.name.value if is_own else ""
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            async with http.get(f"http://{subject.address}/version") as response:
                version = await response.json(content_type=None)
    except ValueError:
        return engine  # at its own port: not every engine has it, but the simulated one does
    except (aiohttp.ClientError, OSError):
        return ""  # it may be too busy to tell
    if isinstance(version, dict) and version.get("version") == EngineName.SIMULATED.value:
        return EngineName.SIMULATED.value
    return engine


def _measure(plan: "ProfilePlan", subject: Subject) -> "tuple[Profile, Measured]":
    import importlib.metadata

    from skerry.client.profile import Endpoint, measure
    from skerry.fleet.profile import Profile, profile_key
    from skerry.plumbing.clock import SystemClock

    clock = SystemClock()
    revision = subject.revision
    endpoint = Endpoint(
        address=subject.address,
        model=revision.base_model.served_name,
        protocol=revision.engine.protocol,
    )
    measured = asyncio.run(measure(plan, endpoint, clock, _tell))
    key = profile_key(subject.revision, subject.shape)
    found = Profile(
        name=key.name,
        base_model=key.base_model,
        engine=key.engine.value,
        engine_version=key.engine_version,
        configuration=key.configuration,
        accelerator=key.accelerator,
        accelerators=key.accelerators,
        steps=measured.steps,
        measured_at=clock.now(),
        prompt_tokens=measured.prompt_tokens,
        output_tokens=measured.output_tokens,
        load_seconds=subject.replica.observed.start_seconds,
        software=f"skerry {importlib.metadata.version('skerry')}, prompts of {plan.seed}",
    )
    return found, measured


def _tell(step: "ProfileStep") -> None:
    """Say on stderr what a step found: the whole may take minutes."""
    typer.echo(
        f"concurrency {step.concurrency}: {step.output_tokens_per_second:,.1f} tokens/s",
        err=True,
    )


def _print(session: Session, subject: Subject, found: "Profile", output: str) -> None:
    from skerry.cli.render import Columns, render_json, render_table

    if output == "json":
        typer.echo(render_json(found))
        return
    columns: Columns = (
        ("CONCURRENCY", lambda s: s.concurrency),
        ("REQUESTS", lambda s: s.requests),
        ("TTFT P50", lambda s: f"{s.ttft_p50_seconds:.3f} s"),
        ("P99", lambda s: f"{s.ttft_p99_seconds:.3f} s"),
        ("ITL P50", lambda s: f"{s.itl_p50_seconds * 1000:.2f} ms"),
        ("P99", lambda s: f"{s.itl_p99_seconds * 1000:.2f} ms"),
        ("TOKENS/S", lambda s: f"{s.output_tokens_per_second:,.1f}"),
        ("PROMPT TOKENS/S", lambda s: f"{s.prompt_tokens_per_second:,.1f}"),
        ("IN TIME", lambda s: "yes" if s.meets(subject.revision.objective) else "no"),
    )
    console = session.console()
    console.print(render_table(columns, found.steps))
    objective = subject.revision.objective
    within = found.step_within(objective)
    promise = f"TTFT {objective.ttft_seconds:g} s and TPOT {objective.tpot_seconds:g} s"
    told = (
        f"{within.output_tokens_per_second:,.1f} tokens/s within {promise}"
        if within
        else f"no concurrency is within {promise}"
    )
    console.print(f"{told}; at most {found.peak_tokens_per_second:,.1f} tokens/s")
