"""What `skerry drill run` refuses before it breaks anything."""

from pathlib import Path

import pytest

from skerry.cli.main import run


def test_a_report_that_cannot_be_written_is_told_before_anything_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no fleet in the folder: who came that far would say so."""
    report = tmp_path / "nowhere" / "report.json"
    told = ["drill", "run", "plane-killed", "--report", str(report), "--data-dir", str(tmp_path)]
    assert run(told) == 2
    assert "--report" in capsys.readouterr().err


def test_a_report_that_can_be_written_is_not_there_before_the_drill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    told = ["drill", "run", "plane-killed", "--report", str(report), "--data-dir", str(tmp_path)]
    assert run(told) == 2
    assert "no fleet of `skerry up`" in capsys.readouterr().err
    assert not report.exists()
