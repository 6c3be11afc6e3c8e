"""What alerts and dashboards ask Prometheus: names and labels out of PromQL, and promtool."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "operating" / "metrics.md"
GRAFANA = ROOT / "deploy" / "grafana"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None,
    reason="SKIPPED: promtool is missing; on Debian it is in the package prometheus"
    " (docs/contributing/tests.md)",
)
# What Prometheus puts on every target, and `prometheus-targets.json` on ours.
TARGET_LABELS = frozenset({"job", "instance", "plane", "deployment", "replica"})
_NAME = re.compile(r"\b(?:skerry|envoy)_[a-z0-9_]+\b|(?<![\w:])up(?=\{)")
_SELECTOR = re.compile(r"\b((?:skerry|envoy)_[a-z0-9_]+|up)\{([^}]*)\}")
_MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_GROUPED = re.compile(r"\b(?:by|on|ignoring|without|group_left)\s*\(([^)]*)\)")
_RECORDED = re.compile(r"\b[a-z]+:[a-z0-9_]+:[a-z0-9_]+\b")


def documented() -> dict[str, frozenset[str]]:
    """Return the labels of every series that docs/operating/metrics.md names."""
    known = {"up": frozenset[str]()}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5 or not cells[1].startswith("`"):
            continue
        name, kind = cells[1].strip("`"), cells[2]
        labels = frozenset(label.strip() for label in cells[3].split(",") if label.strip())
        if kind == "histogram":
            known |= {f"{name}_bucket": labels | {"le"}}
            known |= {f"{name}_{part}": labels for part in ("sum", "count")}
        else:
            known[name] = labels
    return known


def faults_of(expression: str, recorded: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yield what an expression asks for that nothing tells; `recorded` are rules by their name."""
    known = documented()
    # Label names may begin as metrics do.
    bare = _GROUPED.sub("", re.sub(r"\{[^}]*\}", "{}", _RECORDED.sub("", expression)))
    names = set(_NAME.findall(bare))
    told: set[str] = set()
    for rule in _RECORDED.findall(expression):
        if rule not in recorded:
            yield f"{rule} is recorded by no rule"
        told |= recorded.get(rule, frozenset())
    for name in sorted(names - known.keys()):
        yield f"{name} is not in {PAGE.name}"
    for name, selector in _SELECTOR.findall(expression):
        for label in _MATCHER.findall(selector):
            if label not in known.get(name, frozenset()) | TARGET_LABELS:
                yield f"{name} has no label {label}"
    told |= {label for name in names for label in known.get(name, frozenset())} | TARGET_LABELS
    for labels in _GROUPED.findall(expression):
        for label in filter(None, (one.strip() for one in labels.split(","))):
            if label not in told:
                yield f"no series of {expression!r} has the label {label}"


def promtool(*arguments: str | Path) -> None:
    """Run promtool and fail with what it says."""
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
