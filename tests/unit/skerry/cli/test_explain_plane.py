"""What `skerry explain plane` prints, for people and programs, and the freeze above all planes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from skerry.cli import session
from skerry.cli.main import run
from skerry.client.rows import PlaneRow
from skerry.client.verdicts import PlaneExplanation
from skerry.fleet.generation import NEVER
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneState
from skerry.fleet.pool import GatewayAddresses
from skerry.fleet.verdict import Verdict
from tests.builders import an_identity

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
WITNESS = PeerView(plane="aws", verdict=PeerVerdict.UNREACHABLE, since=AT, served_until=AT)
VERDICT = Verdict(
    judged_at=AT,
    state=PlaneState.SUSPECT,
    before=PlaneState.CONNECTED,
    reason="lease over; waiting for more witnesses",
    silent_seconds=9.5,
    lease_seconds=8.0,
    witnesses=(WITNESS,),
    witnesses_needed=2,
    planes_counted=3,
    planes_silent=1,
)
ROW = PlaneRow(
    identity=an_identity("fra"),
    gateway=GatewayAddresses(http="a:1", grpc="a:1", peer="a:2"),
    state=PlaneState.SUSPECT,
    reason=VERDICT.reason,
    since=AT,
    desired=NEVER,
    held=NEVER,
    witnesses=(WITNESS,),
    nack="",
)
FOUND = PlaneExplanation(
    plane=ROW,
    reason=VERDICT.reason,
    until_lost=("1 more of 2 witnesses would have to see it fail",),
    verdict=VERDICT,
    history=(VERDICT,),
    held_back=("20 of 20 moves of this minute are made",),
)


class Operator:
    """An operator API with one plane, while moves are frozen."""

    def explain_plane(self, plane: str) -> PlaneExplanation:
        assert plane == "fra"
        return FOUND

    def get_freeze(self) -> str:
        return "2 of 3 planes fell silent at once"

    def list_planes(self, which: object) -> tuple[PlaneRow, ...]:
        return (ROW,)


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_: session.Session) -> Iterator[Operator]:
        yield Operator()

    monkeypatch.setattr(session.Session, "operator", connect)
    monkeypatch.setenv("COLUMNS", "200")


def test_people_read_state_evidence_and_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["explain", "plane", "fra"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("fra is suspect, since ")
    assert lines[0].endswith(": lease over; waiting for more witnesses")
    assert lines[1] == "held back: 20 of 20 moves of this minute are made"
    assert lines[2] == (
        "evidence: its stream is down, silent for 9.5 s of a lease of 8 s;"
        " 1 of the 2 witnesses needed see it fail; 1 of 3 planes fell silent together"
    )
    assert any(line.startswith("aws unreachable") for line in lines)
    assert "- 1 more of 2 witnesses would have to see it fail" in lines
    assert any("connected suspect 9.5 s 1 of 2 needed" in line for line in lines)


def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "plane", "fra", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"]["witnesses"][0]["verdict"] == "unreachable"
    assert told["history"][0]["before"] == "connected"


def test_a_freeze_is_printed_above_the_planes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "planes"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "2 of 3 planes fell silent at once"
    assert run(["get", "planes", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)
