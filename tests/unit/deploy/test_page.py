"""docs/operating/planes.md names what there is in deploy/, and nothing else."""

import re
import subprocess

import pytest
import typer.main

from skerry.cli.main import app
from tests.unit.deploy.files import DEPLOY, ROOT, unit

PAGE = ROOT / "docs" / "operating" / "planes.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMPOSE = ("deploy/Dockerfile", "deploy/compose_authority.py", "deploy/image.lock")


def test_every_path_on_the_page_exists() -> None:
    paths = {
        path.rstrip(".") for path in re.findall(r"(?<![\w/-])(?:deploy|examples)/[\w./*-]+", TEXT)
    }
    assert paths
    for path in paths:
        assert list(ROOT.glob(path)), path


@pytest.mark.integration
def test_every_file_for_planes_is_on_the_page() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in listed:
        # A whole fleet on one machine, and what watches one: compose.md and metrics.md have that.
        if name.startswith(("deploy/grafana/", "deploy/compose/")) or name in COMPOSE:
            continue
        short = name.rpartition("/")[2].partition(".service")[0]
        assert short in TEXT, name


@pytest.mark.parametrize("kind", ["agent", "gateway", "front", "picker", "relay", "replicas"])
def test_every_unit_is_told(kind: str) -> None:
    assert unit(f"skerry-plane-{kind}@.service")
    assert f"| `skerry-plane-{kind}@` |" in TEXT


def test_every_command_of_ours_exists() -> None:
    command = typer.main.get_command(app)
    known = set(command.commands)  # type: ignore[attr-defined]
    # `-n skerry` is a namespace.
    pattern = r"(?<!-n )(?<![\w/.-])skerry (?:--[\w-]+ [\w.:]+ )*([a-z][\w-]*)"
    for name in re.findall(pattern, TEXT):
        assert name in known, name


def test_no_block_is_taken_for_one_that_the_tests_run() -> None:
    assert "```sh" not in TEXT
    assert DEPLOY.is_dir()
