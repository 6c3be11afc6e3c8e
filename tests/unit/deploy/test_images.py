"""The images are built from what is in this tree and start what is in it."""

import json
import re
import shlex
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from tests.unit.deploy.files import DEPLOY, END_SECONDS, ROOT, instructions, unknown_parts

IMAGES = ("Dockerfile", "Dockerfile.control", "Dockerfile.plane")
PRODUCTION = IMAGES[1:]


def told(image: str, instruction: str) -> list[str]:
    return [text for name, text in instructions(image) if name == instruction]


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("image", IMAGES)
def test_every_path_that_is_copied_exists_and_is_not_ignored(image: str) -> None:
    ignored = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    for text in told(image, "COPY"):
        if text.startswith("--from="):
            continue
        for source in text.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert not any(fnmatch(source.removeprefix("./"), rule) for rule in ignored), source


@pytest.mark.parametrize("image", PRODUCTION)
def test_all_that_setup_needs_is_copied(image: str) -> None:
    copied = {part.removeprefix("./") for text in told(image, "COPY") for part in text.split()[:-1]}
    assert copied >= {"requirements.lock", "pyproject.toml", "Makefile", "README.md", "tools"}
    # The package is installed as it lies there: setuptools takes these folders.
    assert copied >= {"skerry", "scheduler", "control_plane", "workload_plane", "migrations"}


@pytest.mark.parametrize("image", PRODUCTION)
def test_what_is_started_and_asked_exists(image: str) -> None:
    commands = [json.loads(text) for text in told(image, "CMD") + told(image, "ENTRYPOINT")]
    (check,) = told(image, "HEALTHCHECK")
    commands.append(json.loads(check.partition(" CMD ")[2]))
    assert [unknown_parts(command) for command in commands] == [[], [], []]


@pytest.mark.parametrize("image", PRODUCTION)
def test_links_lead_to_commands_of_the_environment(image: str) -> None:
    for text in told(image, "RUN"):
        targets = [w for w in shlex.split(text) if w.startswith("/opt/skerry/.venv/bin/")]
        assert unknown_parts(targets) == []


@pytest.mark.parametrize("image", PRODUCTION)
def test_production_images_run_as_a_numbered_user_under_an_init(image: str) -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", told(image, "USER")[-1])
    (entrypoint,) = told(image, "ENTRYPOINT")
    assert json.loads(entrypoint)[:2] == ["/usr/bin/tini", "--"]
    assert told(image, "STOPSIGNAL") == ["SIGTERM"]


def test_the_planes_memory_and_models_are_volumes() -> None:
    example = json.loads((DEPLOY / "examples" / "plane-h100.json").read_bytes())
    (volumes,) = map(json.loads, told("Dockerfile.plane", "VOLUME"))
    assert any(example["data_dir"].startswith(f"{volume}/") for volume in volumes)
    assert example["model_cache"]["directory"] in volumes


def test_the_engines_packages_are_left_alone() -> None:
    (setup,) = [text for text in told("Dockerfile.plane", "RUN") if "make setup" in text]
    # NVIDIA's constraint file would bend our lock, and our python would hide the engine's.
    assert setup.startswith('PIP_CONSTRAINT="" make setup')
    assert not any("/opt/skerry/.venv" in text for text in told("Dockerfile.plane", "ENV"))


def test_the_compose_file_gives_a_plane_what_it_needs() -> None:
    text = (DEPLOY / "compose.gpu.yml").read_text(encoding="utf-8")
    plane: dict[str, Any] = yaml.safe_load(text)["services"]["plane"]
    assert (DEPLOY / plane["build"]["context"] / plane["build"]["dockerfile"]).is_file()
    (version,) = told("Dockerfile.plane", "ARG")
    given = plane["build"]["args"]["TENSORRT_LLM_VERSION"]
    assert version == f"TENSORRT_LLM_VERSION={given}"
    assert told("Dockerfile.plane", "FROM")[0].endswith(":${TENSORRT_LLM_VERSION}")
    assert seconds(plane["stop_grace_period"]) >= END_SECONDS
    (device,) = plane["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    mounted = {volume.split(":")[1] for volume in plane["volumes"]}
    (volumes,) = map(json.loads, told("Dockerfile.plane", "VOLUME"))
    assert mounted >= set(volumes)
