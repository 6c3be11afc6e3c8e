"""A launch shown process by process: the words, the files and the environment of each.

`skerry engine render` prints it, and the golden files hold it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from workload_plane.engines.port import EngineLaunch, LaunchParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownProcess:
    """One process of a replica as a person would start it by hand."""

    name: str
    argv: tuple[str, ...]
    files: Mapping[str, str]
    env: Mapping[str, str]


def processes_of(launch: EngineLaunch, parameters: LaunchParameters) -> tuple[ShownProcess, ...]:
    """Return every process in the order of their starts, each with the files that it reads."""
    found = launch.processes(parameters.http_port)
    read_by = {
        name: [one.name for one in found if _path(parameters, name) in one.argv]
        for name, _ in launch.files
    }
    main = found[-1].name
    return tuple(
        ShownProcess(
            name=one.name,
            argv=one.argv,
            # What no command names is read by people beside the main process.
            files={
                name: text for name, text in launch.files if one.name in (read_by[name] or [main])
            },
            env=dict(one.environment),
        )
        for one in found
    )


def _path(parameters: LaunchParameters, name: str) -> str:
    return f"{parameters.config_dir}/{name}"
