"""What `skerry audit residency` shows: what is proven, what left, and what nobody recorded."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.console import Console

from skerry.cli.residency import SHOWN_MAX, show_proof
from skerry.client.residency import DeploymentResidencyRow, OutsideRow, ResidencyRow, UnprovedRow

AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
CHAT = DeploymentResidencyRow(
    deployment="chat-eu",
    zones=("eu",),
    proven=True,
    inside=81,
    outside=0,
    without_policy=0,
    left=(),
    unproved=(),
)
PROOF = ResidencyRow(
    since=AT,
    until=AT + timedelta(hours=1),
    deployments=(CHAT,),
    unproved=(),
    unproved_count=0,
)
LEFT = OutsideRow(
    minute=AT, gateway="a", plane="b", zones=(), allowed=("eu",), version="1.7", count=2
)
GAP = UnprovedRow(
    plane="a", since=AT, until=AT + timedelta(minutes=1), reason="its gateway told nothing"
)


def shown(row: ResidencyRow) -> list[str]:
    out = io.StringIO()
    show_proof(Console(file=out, width=200), row)
    return out.getvalue().splitlines()


def test_what_is_proven_is_said_in_two_lines() -> None:
    assert shown(PROOF) == [
        "chat-eu: 81 requests inside (eu), 0 outside: none left",
        "2026-12-01T09:00:00Z to 2026-12-01T10:00:00Z: proven",
    ]


def test_what_left_is_named() -> None:
    left = replace(CHAT, proven=False, outside=2, left=(LEFT,))
    row = replace(PROOF, deployments=(left,))
    assert not row.proven
    first, second = shown(row)
    assert first == "chat-eu: 81 requests inside (eu), 2 outside: SOME LEFT"
    assert second.startswith("  2026-12-01T09:00:00Z: 2 requests, a to b (no zone that was known;")
    assert second.endswith("allowed eu, version 1.7)")


def test_what_nobody_recorded_is_not_none_left() -> None:
    gaps = (GAP,) * (SHOWN_MAX + 2)
    unsure = replace(CHAT, proven=False)
    row = replace(PROOF, deployments=(unsure,), unproved=gaps, unproved_count=len(gaps))
    lines = shown(row)
    assert not row.proven
    assert "none seen to leave, but not all is proven" in lines[0]
    assert lines[2] == "  2026-12-01T09:00:00Z to 2026-12-01T09:01:00Z: a: its gateway told nothing"
    assert lines[-1] == "  and 2 more; `-o json` has them"
