"""Settings come from defaults, file and environment in that order, with all faults at once."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest

from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.settings import load


class Mode(StrEnum):
    """Two ways."""

    FAST = "fast"
    SAFE = "safe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One field of each kind that is read."""

    data_dir: Path
    port: int = 8080
    timeout_seconds: float = 3.0
    debug: bool = False
    mode: Mode = Mode.SAFE
    form: Literal["text", "json"] = "text"
    name: str | None = None
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse ports that are none."""
        if not 0 <= self.port < 65536:
            raise ValueError(f"port {self.port} is out of range")


def test_environment_wins_over_file_wins_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('data_dir = "/a"\nport = 1\npeers = ["x", "y"]\ntimeout_seconds = 2\n')
    env = {
        "T_PORT": "2",
        "T_DEBUG": "yes",
        "T_MODE": "fast",
        "T_FORM": "json",
        "T_NAME": "n",
        "OTHER": "ignored",
    }
    assert load(Example, env, "T_", file) == Example(
        data_dir=Path("/a"),
        port=2,
        timeout_seconds=2.0,
        debug=True,
        mode=Mode.FAST,
        form="json",
        name="n",
        peers=("x", "y"),
    )


def test_lists_in_the_environment_are_split_at_commas() -> None:
    example = load(Example, {"T_DATA_DIR": "/a", "T_PEERS": "x, y,"}, "T_")
    assert example.peers == ("x", "y")


def test_empty_variable_means_none_where_none_is_allowed() -> None:
    assert load(Example, {"T_DATA_DIR": "/a", "T_NAME": ""}, "T_").name is None


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('typo = 1\ndebug = "perhaps"\n')
    env = {"T_PORT": "many", "T_TIMEOUT_SECONDS": "nan", "T_MODE": "slow", "T_FORM": "xml"}
    with pytest.raises(InvalidInput) as caught:
        load(Example, env, "T_", file)
    paths = {violation.path for violation in caught.value.violations}
    assert paths == {
        f"{file}: typo",
        f"{file}: debug",
        "T_PORT",
        "T_TIMEOUT_SECONDS",
        "T_MODE",
        "T_FORM",
        "T_DATA_DIR",
    }
    assert all(path in str(caught.value) for path in paths)


def test_values_own_invariants_are_faults_too() -> None:
    with pytest.raises(InvalidInput, match="port 70000 is out of range"):
        load(Example, {"T_DATA_DIR": "/a", "T_PORT": "70000"}, "T_")


@pytest.mark.parametrize("text", ["port = ", "port = 1.5\ndata_dir='/a'", "data_dir = 3", "\xff"])
def test_wrong_file_is_a_fault(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput):
        load(Example, {}, "T_", file)


def test_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(Example, {"T_DATA_DIR": "/a"}, "T_", tmp_path / "none.toml")
