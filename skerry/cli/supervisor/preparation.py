"""Everything that must be right before a fleet is started: planes, ports, model, certificates.

`skerry up` calls `prepare`; what is wrong is told with its remedy and nothing is started.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import skerry
from skerry.cli.supervisor.engine_user import let_engines_in
from skerry.cli.supervisor.layout import (
    HOST,
    DataDirectory,
    Layout,
    check_layout,
    choose_control_planes,
    choose_runtimes,
    extend_layout,
    ports_of,
    read_layout,
    write_layout,
)
from skerry.cli.supervisor.log_files import log_files
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.settings_files import write_settings
from skerry.plumbing.bounded_log import FILE_MODE
from skerry.plumbing.errors import Conflict, InvalidInput, NotFound
from skerry.plumbing.files import lock_file
from skerry.plumbing.ports import check_port_free, fixed_port
from skerry.plumbing.sealing import check_references, read_keyring
from skerry.plumbing.trace_target import TraceTarget

PLANES_DEFAULT = 3
ENGINE_DEFAULT = "llamacpp"
MODEL_FILE = "skerry-tiny.gguf"
_DIRECTORY_MODE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What else an operator may choose of a fleet; nothing or None: as before.

    At first planes run locally, under one control plane with an SQLite file.
    """

    runtimes: tuple[str, ...] = ()
    control_planes: int | None = None
    database: str | None = None
    auth: bool | None = None  # whether callers of the operator API must show a credential
    keys: bool | None = None  # whether users of gateways must show an API key
    engine_user: str | None = None  # UID or UID:GID of engines; empty: as whoever starts the fleet
    tls: bool | None = None  # whether the operator API is served with the fleet's certificate
    trace_endpoint: str | None = None  # where traces go; "" for nowhere
    sealing_keys: tuple[str, ...] | None = None  # where keys are that seal the authority's key


AS_BEFORE = Choices()


def prepare(
    directory: DataDirectory,
    planes: int | None,
    engine: str | None,
    now: datetime,
    environment: Mapping[str, str],
    choices: Choices = AS_BEFORE,
) -> Layout:
    """Write the layout, the certificates and the settings of a fleet; return the layout.

    None takes what the directory had before. Raises Conflict for a fleet that runs there or a
    port that is taken, NotFound for a missing model file, InvalidInput for what is out of range.
    """
    existing = read_layout(directory) if directory.layout.exists() else None
    if planes is None:
        planes = len(existing.planes) if existing else PLANES_DEFAULT
    engine = engine or (existing.engine if existing else ENGINE_DEFAULT)
    check_layout(planes, engine)
    model_directories = _model_directories(engine, environment)
    make_private(directory)
    check_not_running(directory)
    take_port = partial(fixed_port, HOST)
    layout = extend_layout(existing, planes, engine, take_port)
    layout = choose_runtimes(layout, choices.runtimes, take_port)
    layout = choose_control_planes(
        layout,
        choices.control_planes,
        choices.database,
        take_port,
        is_new=existing is None,
    )
    if choices.auth is not None:
        layout = replace(layout, auth=choices.auth)
    if choices.tls is not None:
        layout = replace(layout, tls=choices.tls)
    if choices.trace_endpoint is not None:
        layout = replace(layout, trace_endpoint=_checked_endpoint(choices.trace_endpoint))
    if choices.sealing_keys is not None:
        layout = replace(layout, sealing_keys=_checked_keys(choices.sealing_keys))
    if choices.keys is not None:
        layout = replace(layout, keys=choices.keys)
    if choices.engine_user is not None:
        layout = replace(layout, engine_user=choices.engine_user)
    keyring = read_keyring(layout.sealing_keys, environment)
    let_engines_in(directory, layout, model_directories)
    if not read_living_processes(directory.processes):
        # With processes of an earlier supervisor alive, the ports are theirs: they are adopted.
        _check_ports(directory, layout)
    write_layout(directory, layout)
    write_settings(directory, layout, model_directories, now, keyring)
    return layout


def _checked_endpoint(endpoint: str) -> str:
    try:
        return TraceTarget(endpoint=endpoint).endpoint if endpoint else ""
    except ValueError as fault:
        raise InvalidInput(f"--trace-endpoint: {fault}") from None


def _checked_keys(references: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return check_references(references)
    except ValueError as fault:
        raise InvalidInput(f"--sealing-key: {fault}") from None


def make_private(directory: DataDirectory) -> None:
    """Make the directory, its database and its logs readable by their owner alone.

    A directory with other people's files in it keeps its mode: it isn't only ours.
    """
    root = directory.root
    root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    if directory.layout.exists() or not any(root.iterdir()):
        root.chmod(_DIRECTORY_MODE)
    # Those that an earlier version made; new ones are made so.
    for path in (*directory.control_plane.glob("skerry.db*"), *log_files(directory)):
        path.chmod(FILE_MODE)


def check_not_running(directory: DataDirectory) -> None:
    """Raise Conflict when a supervisor holds the directory."""
    try:
        with lock_file(directory.lock):
            pass
    except Conflict as error:
        raise Conflict(
            f"a fleet runs in {directory.root} already (process {error.hints.get('pid', '?')});"
            f" stop it with `skerry down --data-dir {directory.root}` or take another --data-dir"
        ) from None


def model_directory(environment: Mapping[str, str]) -> Path:
    """Return where builtin base models are: SKERRY_MODEL_DIR, or examples/models of the tree."""
    named = environment.get("SKERRY_MODEL_DIR")
    if named:
        return Path(named).resolve()
    return Path(skerry.__file__).resolve().parent.parent / "examples" / "models"


def _model_directories(engine: str, environment: Mapping[str, str]) -> tuple[Path, ...]:
    folder = model_directory(environment)
    path = folder / MODEL_FILE
    if engine == "llamacpp" and not path.is_file():
        raise NotFound(
            f"the base model {path} is missing; restore it with `git checkout -- {MODEL_FILE}`"
            " in its folder, name another folder in SKERRY_MODEL_DIR, or use --engine simulated"
        )
    return (folder,)


def _check_ports(directory: DataDirectory, layout: Layout) -> None:
    for port, use in ports_of(layout).items():
        try:
            check_port_free(HOST, port)
        except Conflict as error:
            holder = f" by process {pid}" if (pid := error.hints.get("pid")) else ""
            raise Conflict(
                f"port {port} ({use} port) is taken{holder}; stop that, or delete"
                f" {directory.layout} to choose new ports",
                hints=error.hints,
            ) from None
