"""`skerry logs` finds every log of a replica and reads on into what a cut log was before."""

from pathlib import Path

import pytest

from skerry.cli.logs import log_paths, print_tail


def a_log(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_replica_has_the_logs_of_its_host_and_of_each_process_of_its_engine(
    tmp_path: Path,
) -> None:
    logs = tmp_path / "planes" / "here" / "logs"
    host = a_log(logs / "demo-r1-aaaaaa.log", "host")
    engine = a_log(logs / "demo-r1-aaaaaa" / "engine.log", "engine")
    worker = a_log(logs / "demo-r1-aaaaaa" / "context-0.log", "worker")
    a_log(logs / "demo-r1-bbbbbb.log", "another")
    assert set(log_paths(tmp_path, "demo-r1-aaaaaa")) == {host, engine, worker}


def test_a_log_that_was_begun_anew_is_read_on_into_its_older_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_log(tmp_path / "engine.log.1", "1", "2", "3")
    log = a_log(tmp_path / "engine.log", "4")
    assert print_tail(log, 3, is_named=False) == 2
    assert capsys.readouterr().out == "2\n3\n4\n"
    print_tail(log, 1, is_named=True)
    assert capsys.readouterr().out == "==> engine.log <==\n4\n"
    print_tail(log, 0, is_named=False)
    assert capsys.readouterr().out == ""


def test_every_part_of_a_plane_and_every_control_plane_has_its_logs(tmp_path: Path) -> None:
    logs = tmp_path / "planes" / "here" / "logs"
    parts = {a_log(logs / f"{part}.log", part) for part in ("agent", "gateway", "picker", "relay")}
    standby = a_log(tmp_path / "control-plane-2" / "log", "standby")
    assert set(log_paths(tmp_path, "here")) == parts
    assert log_paths(tmp_path, "control-plane-2") == (standby,)
