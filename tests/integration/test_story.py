"""The story of `make demo`, held as a test: real processes, real kills, and its promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 180  # the bound on the whole story
CONTRACT = {
    "requests_total",
    "requests_failed",
    "streams_interrupted",
    "control_plane_down_seconds",
    "requests_while_down",
    "failed_while_down",
    "interrupted_while_down",
    "plane_killed",
    "first_success_after_plane_kill_ms",
    "replacement_decided_seconds",
    "replacement_ready_seconds",
    "replicas_restarted_by_control_plane_return",
    "placements_before",
    "placements_after",
}


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_users_do_not_notice_that_the_control_plane_and_then_a_plane_dies(tmp_path: Path) -> None:
    story = subprocess.run(
        [sys.executable, "-m", "skerry.cli.demo"],
        cwd=tmp_path,
        env={**os.environ, "SKERRY_DATA_DIR": str(tmp_path / "fleet")},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert story.returncode == 0, f"{story.stdout}\n{story.stderr}"
    assert "`skerry explain deployment demo`: 1 on " in story.stdout
    assert "`skerry what-if --lose plane/gcp-europe-west4`: " in story.stdout
    report = json.loads((tmp_path / "demo-report.json").read_text(encoding="utf-8"))
    assert report.keys() >= CONTRACT
    assert report["requests_total"] > 200
    assert report["requests_failed"] == 0
    assert report["failed_while_down"] == 0
    assert report["control_plane_down_seconds"] >= 30
    assert report["first_success_after_plane_kill_ms"] <= 3_000
    assert report["replacement_decided_seconds"] <= 20
    assert report["replicas_restarted_by_control_plane_return"] == 0
    assert report["placements_before"] == report["placements_after"]
    assert report["memory_peak_mib"] < 2_560
