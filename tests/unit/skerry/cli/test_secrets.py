"""`skerry secrets`: a key is made, sealed by, replaced and taken away, and shown only once."""

import itertools
import json
from pathlib import Path

import pytest

from skerry.cli.main import run
from skerry.cli.session import EXIT_FAILED, EXIT_USAGE
from skerry.cli.supervisor import preparation
from skerry.cli.supervisor.layout import DataDirectory, read_layout
from skerry.cli.supervisor.preparation import Choices, prepare
from skerry.plumbing.errors import Infeasible, InvalidInput
from tests.unit.skerry.plumbing.test_certificates import NOW

ENGINE = "simulated"


@pytest.fixture(autouse=True)
def made_up_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take ports that nobody opens: nothing is started."""
    ports = itertools.count(20_000)
    monkeypatch.setattr(preparation, "fixed_port", lambda _: next(ports))
    monkeypatch.setattr(preparation, "check_port_free", lambda *_: None)


@pytest.fixture
def fleet(tmp_path: Path) -> DataDirectory:
    """Return a fleet of `skerry up` that was prepared, plain as ever."""
    directory = DataDirectory(tmp_path / "fleet")
    prepare(directory, 1, ENGINE, NOW, {})
    return directory


def new_key(path: Path) -> str:
    """Make a key in a file; return its reference."""
    assert run(["secrets", "new-key", "--out", str(path)]) == 0
    return f"file:{path}"


def again(fleet: DataDirectory, *references: str) -> None:
    prepare(fleet, 1, ENGINE, NOW, {}, Choices(sealing_keys=references))


def asked(fleet: DataDirectory, *words: str) -> int:
    return run(["secrets", *words, "--data-dir", str(fleet.root)])


def test_a_fleet_is_sealed_its_key_replaced_and_it_is_plain_again(
    fleet: DataDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fleet.pki / "authority" / "ca.key"
    plain = path.read_bytes()
    old, new = new_key(tmp_path / "old"), new_key(tmp_path / "new")
    keys = [(tmp_path / name).read_text().strip() for name in ("old", "new")]
    again(fleet, old)
    assert path.read_bytes() == plain, "what is there is sealed when it is asked for"
    assert asked(fleet, "rotate") == 0
    first = path.read_bytes()
    assert b"PRIVATE KEY" not in first
    again(fleet, new, old)
    assert asked(fleet, "list") == 0
    assert "rotate" in capsys.readouterr().out
    assert asked(fleet, "rotate") == 0
    assert path.read_bytes() != first
    again(fleet, new)
    assert asked(fleet, "list") == 0
    with pytest.raises(Infeasible, match="sealing_keys"):
        again(fleet, old)
    again(fleet, new)
    assert asked(fleet, "unseal") == 0
    assert path.read_bytes() == plain
    told = capsys.readouterr()
    assert all(key not in told.out + told.err for key in keys)
    settings = (fleet.control_plane / "settings.json").read_text() + fleet.layout.read_text()
    assert all(key not in settings for key in keys)
    assert json.loads((fleet.control_plane / "settings.json").read_text())["joining"][
        "sealing_keys"
    ] == [new]
    assert read_layout(fleet).sealing_keys == (new,)


def test_a_new_fleet_with_a_key_has_never_a_plain_one(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "fleet")
    reference = new_key(tmp_path / "key")
    prepare(directory, 1, ENGINE, NOW, {}, Choices(sealing_keys=(reference,)))
    assert b"PRIVATE KEY" not in (directory.pki / "authority" / "ca.key").read_bytes()
    # What was told once holds.
    prepare(directory, 1, ENGINE, NOW, {})
    assert read_layout(directory).sealing_keys == (reference,)


def test_a_key_is_named_and_never_given(fleet: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match="--sealing-key") as refused:
        again(fleet, "sks_" + "a" * 43)
    assert "aaa" not in str(refused.value)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    assert run(["secrets", "new-key", "--out", str(tmp_path / "key")]) == EXIT_USAGE
    assert (tmp_path / "key").read_bytes() == before
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_without_keys_nothing_is_sealed_and_the_remedy_is_told(
    fleet: DataDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(fleet, "rotate") == EXIT_USAGE
    assert "new-key" in capsys.readouterr().err
    assert asked(fleet, "list") == 0
    assert "plain" in capsys.readouterr().out
    assert asked(fleet, "unseal") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_key_that_is_gone_is_told_and_changes_nothing(
    fleet: DataDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again(fleet, new_key(tmp_path / "key"))
    assert asked(fleet, "rotate") == 0
    before = (fleet.pki / "authority" / "ca.key").read_bytes()
    (tmp_path / "key").unlink()
    assert asked(fleet, "unseal") == EXIT_FAILED
    assert str(tmp_path / "key") in capsys.readouterr().err
    assert (fleet.pki / "authority" / "ca.key").read_bytes() == before
