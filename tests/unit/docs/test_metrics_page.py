"""Every instrument is on the page about metrics, with the help that `/metrics` shows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "operating" / "metrics.md"
# A process of its own: other tests declare instruments of theirs in this one.
ROWS = """
import control_plane.instruments, workload_plane.replica_host.instruments
import workload_plane.relay.instruments, workload_plane.picker.exposition
import workload_plane.autoscale.instruments, workload_plane.gateway.instruments
import workload_plane.residency.instruments, skerry.plumbing.host_metrics
import skerry.plumbing.tracing
from skerry.plumbing.metrics import declared
for d in declared():
    print(f"| `{d.name}` | {d.kind} | {', '.join(d.labels)} | {d.help} |")
"""


@pytest.mark.integration
def test_every_instrument_is_documented_and_nothing_else_is() -> None:
    rows = {line for line in PAGE.read_text(encoding="utf-8").splitlines() if "`skerry_" in line}
    declared = subprocess.run(
        [sys.executable, "-c", ROWS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert rows == set(declared.stdout.splitlines())
