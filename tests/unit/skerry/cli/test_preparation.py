"""What `skerry up` makes is for its user alone."""

import stat
from pathlib import Path

from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.preparation import make_private


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_directory_is_its_owners_alone(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "new" / "fleet")
    make_private(directory)
    assert mode_of(directory.root) == 0o700


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "fleet")
    for name in ("control-plane/skerry.db", "control-plane/log", "planes/a/logs/agent.log"):
        path = directory.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o644)
    directory.layout.touch()
    directory.root.chmod(0o755)
    make_private(directory)
    assert mode_of(directory.root) == 0o700
    assert mode_of(directory.control_plane / "skerry.db") == 0o600
    assert mode_of(directory.control_plane / "log") == 0o600
    assert mode_of(directory.root / "planes/a/logs/agent.log") == 0o600


def test_a_directory_that_holds_other_things_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    make_private(DataDirectory(tmp_path))
    assert mode_of(tmp_path) == 0o755
