"""`skerry engine render`: what a deployment's engine would be started with, with no control plane.

The renderers are those of the planes; nothing is read but the deployment file.
"""

import json
import shlex
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.files import read_deployments
from skerry.cli.session import UsageFault

if TYPE_CHECKING:
    from skerry.fleet.deployment import Deployment
    from workload_plane.engines.port import LaunchParameters

PORT_DEFAULT = 8000
PORT_MAX = 65_535

app = typer.Typer(help="Look at engines: what a deployment's would be started with.")


class Output(StrEnum):
    """How `render` prints."""

    TEXT = "text"
    JSON = "json"


@app.callback()
def engine() -> None:
    """Look at engines: what a deployment's would be started with."""


@app.command()
def render(
    file: Annotated[
        list[str], typer.Option("-f", "--file", help="File or directory; - is stdin. Repeatable.")
    ],
    engine_version: Annotated[
        str | None,
        typer.Option("--engine-version", help="In place of the file's, such as 1.4."),
    ] = None,
    model_path: Annotated[
        str | None, typer.Option("--model-path", help="Where the base model is on the node.")
    ] = None,
    config_dir: Annotated[
        str, typer.Option("--config-dir", help="Where the engine will find its files.")
    ] = ".",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=1, max=PORT_MAX, help="Of the engine; more processes take the next ones."
        ),
    ] = PORT_DEFAULT,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Print the command, files and environment of each process of a deployment's replica."""
    shown: list[dict[str, object]] = []
    for source, deployment in read_deployments(file):
        shown += _render(source, deployment, engine_version, (model_path, config_dir, port))
    if output is Output.JSON:
        typer.echo(json.dumps(shown, indent=2))
    else:
        typer.echo("\n".join(map(_text, shown)))


def _render(
    source: str, deployment: "Deployment", version: str | None, place: tuple[str | None, str, int]
) -> list[dict[str, object]]:
    """Return one entry for each process of the deployment's replica; UsageFault tells refusals."""
    from workload_plane.engines import catalogue
    from workload_plane.engines.port import UnsupportedTechnique
    from workload_plane.engines.showing import processes_of

    spec = deployment.revision.engine
    try:
        spec = spec if version is None else replace(spec, version=version)
        parameters = _parameters(deployment, place)
        launch = catalogue.render(spec, parameters)
    except (UnsupportedTechnique, ValueError) as error:
        raise UsageFault(f"{source}: deployment {deployment.name!r}: {error}") from None
    return [
        {
            "deployment": deployment.name,
            "process": one.name,
            "argv": list(one.argv),
            "files": dict(one.files),
            "env": dict(one.env),
        }
        for one in processes_of(launch, parameters)
    ]


def _parameters(deployment: "Deployment", place: tuple[str | None, str, int]) -> "LaunchParameters":
    from workload_plane.engines.port import LaunchParameters, reference_of, worker_ports_wanted

    model_path, config_dir, port = place
    spec, base_model = deployment.revision.engine, deployment.revision.base_model
    workers = worker_ports_wanted(spec)
    if port + workers > PORT_MAX:
        raise UsageFault(f"--port {port}: the replica's {workers} servers take the ports after it")
    return LaunchParameters(
        model_path=model_path or reference_of(base_model.uri),
        served_name=base_model.served_name,
        host="127.0.0.1",
        http_port=port,
        config_dir=config_dir,
        worker_ports=tuple(range(port + 1, port + 1 + workers)),
    )


def _text(entry: dict[str, object]) -> str:
    argv, files, env = entry["argv"], entry["files"], entry["env"]
    assert isinstance(argv, list)
    assert isinstance(files, dict)
    assert isinstance(env, dict)
    lines = [f"# {entry['deployment']}: {entry['process']}"]
    words = [f"{name}={shlex.quote(value)}" for name, value in env.items()]
    lines.append(" ".join([*words, shlex.join(argv)]))
    for name, text in files.items():
        lines += [f"# file {name}", text.rstrip("\n")]
    return "\n".join(lines) + "\n"
