"""`skerry export` and `skerry diff`: the fleet's intent as files, and files against it."""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.files import read_objects
from skerry.cli.session import EXIT_FAILED, UsageFault, session_of
from skerry.plumbing.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skerry.client.manifest import Object
    from skerry.client.operator import OperatorClient


def export(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Directory for a file each; else all is printed."),
    ] = None,
) -> None:
    """Write all that was said of the fleet as files that `apply` accepts back unchanged."""
    from skerry.client.fleet_intent import read_fleet
    from skerry.client.manifest_rendering import render_text

    session = session_of(context)
    with session.operator() as client:
        objects = read_fleet(client)
    if output is None:
        typer.echo(render_text(objects), nl=False)
        return
    written = _write(output, objects)
    session.console().print(f"{len(written)} files written to {output}")
    for path in sorted(set(output.rglob("*.yaml")) - written):
        session.console().print(f"  warning: {path} says what the fleet does not")


def diff(
    context: typer.Context,
    file: Annotated[
        list[str], typer.Option("-f", "--file", help="File or directory; - is stdin. Repeatable.")
    ],
) -> None:
    """Show what applying files would change, as a unified diff; exit 1 when anything would."""
    session = session_of(context)
    changed = False
    wanted = read_objects(file)
    with session.operator() as client:
        held = _held(client, [one for _, one in wanted])
    for source, one in wanted:
        before = held.get(_key(one))
        lines = list(
            difflib.unified_diff(
                _lines(before),
                _lines(_as_applied(one, before)),
                "in force" if before else "not there yet",
                source,
                lineterm="",
            )
        )
        changed = changed or bool(lines)
        for line in lines:
            session.console().print(line, style=_style(line))
    if changed:
        raise typer.Exit(EXIT_FAILED)


def _write(folder: Path, objects: "Sequence[Object]") -> set[Path]:
    """Write a file for each object, below a directory of its kind; return which were written."""
    from skerry.client.manifest_rendering import render_text

    written = set()
    for one in objects:
        path = folder / _file_name(one)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render_text([one]), encoding="utf-8")
        except OSError as error:
            raise UsageFault(f"{path}: {error.strerror}; give a directory to write to") from None
        written.add(path)
    return written


def _file_name(one: "Object") -> str:
    from skerry.client.manifest_intents import noun_of
    from skerry.fleet.deployment import Deployment
    from skerry.fleet.intent import name_of

    if isinstance(one, Deployment):
        return f"deployment/{one.name}.yaml"
    # Names are of a-z, 0-9 and -; those of regions and times have parts, and times colons.
    return f"{noun_of(one)}/{name_of(one).replace(':', '')}.yaml"


def _held(client: "OperatorClient", wanted: "Sequence[Object]") -> "Mapping[object, Object]":
    """Return what is in force of what is wanted, by what it is about."""
    from skerry.client.fleet_intent import read_intents, split

    deployments, intents = split(wanted)
    held: dict[object, Object] = {}
    if intents:
        held |= {_key(one): one for one in read_intents(client)}
    for one in deployments:
        try:
            held[_key(one)] = client.get_deployment(one.name).deployment
        except NotFound:
            continue
    return held


def _key(one: "Object") -> object:
    from skerry.fleet.deployment import Deployment
    from skerry.fleet.intent import subject_of

    return one.name if isinstance(one, Deployment) else subject_of(one)


def _as_applied(one: "Object", held: "Object | None") -> "Object":
    """Return an object as it would be once it is applied: a cordon that holds keeps its reason."""
    from skerry.fleet.intent import CordonIntent

    if not (isinstance(one, CordonIntent) and isinstance(held, CordonIntent)):
        return one
    keeps = one.state is held.state or not one.reason
    return replace(one, reason=held.reason) if keeps else one


def _lines(one: "Object | None") -> list[str]:
    """Return an object as the lines of its file, with every default left out."""
    from skerry.client.manifest_rendering import render_text

    return [] if one is None else render_text([one]).splitlines()


def _style(line: str) -> str | None:
    if line.startswith("+"):
        return "green"
    return "red" if line.startswith("-") else None
