"""The files of deploy/, read as the programs that they are for read them."""

import json
import tomllib
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from workload_plane.replica_host.ending import STOP_SECONDS_MAX

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
INSTALLED = "/opt/skerry/"
PYTHON = "/opt/skerry/.venv/bin/python"

# From SIGTERM on: peers turned away, the agent, the replicas with their fence, gateway and front.
END_SECONDS = 2 + 15 + STOP_SECONDS_MAX + 20 + 15 + 15


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions with their text, continued lines joined."""
    lines = (DEPLOY / dockerfile).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            found.append((name, " ".join(rest.split())))
    return found


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Return a systemd unit: section, key, every value given."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def objects(manifest: str) -> list[dict[str, Any]]:
    """Return the objects of a file in deploy/kubernetes."""
    text = (DEPLOY / "kubernetes" / manifest).read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


def an_object(manifest: str, kind: str) -> dict[str, Any]:
    """Return the only object of a kind."""
    (found,) = [one for one in objects(manifest) if one["kind"] == kind]
    return found


def settings_in(manifest: str) -> dict[str, Any]:
    """Return the plane's settings in a manifest's ConfigMap."""
    values: dict[str, Any] = json.loads(an_object(manifest, "ConfigMap")["data"]["settings.json"])
    return values


def unknown_parts(command: list[str]) -> list[str]:
    """Return what of a command is neither in this tree nor an entry point of what is installed."""
    unknown = []
    for index, word in enumerate(command):
        if word == PYTHON:
            continue
        if command[index - 1 : index] == ["-m"]:
            unknown += [] if find_spec(word) is not None else [word]
        elif word.startswith(f"{INSTALLED}.venv/bin/"):
            unknown += [] if Path(word).name in scripts() else [word]
        elif word.startswith(INSTALLED):
            unknown += [] if (ROOT / word.removeprefix(INSTALLED)).exists() else [word]
    return unknown


def scripts() -> set[str]:
    """Return the commands that the environment of the lock file has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {*project["scripts"], *(one.name for one in entry_points(group="console_scripts"))}
