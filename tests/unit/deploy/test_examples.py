"""Whatever deploy/ shows as settings is accepted by the program that reads it."""

import json
from pathlib import Path

import pytest

from control_plane.settings import load_settings
from tests.unit.deploy.files import DEPLOY, instructions, settings_in
from workload_plane.settings import parse_settings, read_settings

EXAMPLES = DEPLOY / "examples"
PLANES = ("plane-h100.json", "plane-ray.json")


@pytest.mark.parametrize("name", PLANES)
def test_a_planes_example_is_accepted(name: str) -> None:
    settings = read_settings(EXAMPLES / name)
    assert settings.tls is not None
    assert settings.tls.cert.name == f"{settings.plane}.pem"
    assert settings.data_dir.name == settings.plane
    assert (settings.ray is not None) == ("ray" in name)


def test_the_control_planes_example_is_accepted() -> None:
    settings = load_settings(EXAMPLES / "control-plane.json")
    (volume,) = [text for name, text in instructions("Dockerfile.control") if name == "VOLUME"]
    (home,) = json.loads(volume)
    assert settings.database_url.startswith(f"sqlite:///{home}/")
    assert settings.tls.certificate.name == f"{settings.name}.pem"


def test_every_example_is_checked_here() -> None:
    known = {*PLANES, "control-plane.json", "plane.env"}
    assert {path.name for path in EXAMPLES.iterdir()} == known


@pytest.mark.parametrize("manifest", ["plane/plane.yaml", "plane-ray/plane-ray.yaml"])
def test_the_settings_inside_a_manifest_are_accepted(manifest: str) -> None:
    assert parse_settings(settings_in(manifest)).control_planes


def test_the_environment_is_one_that_systemd_reads() -> None:
    lines = (EXAMPLES / "plane.env").read_text(encoding="utf-8").splitlines()
    told = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert all(Path(entry).is_absolute() for entry in told["PATH"].split(":"))
    # An import path would put the engine's packages before the plane's, or the other way round.
    assert "PYTHONPATH" not in told
