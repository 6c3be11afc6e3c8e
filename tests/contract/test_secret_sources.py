"""Every source of a secret keeps the same promises: whole, bounded, and never shown in an error."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.plumbing.errors import Infeasible
from skerry.plumbing.secret_references import (
    SECRET_BYTES_MAX,
    SecretSource,
    source_of,
)

CANARY = "canaryofareference000001"
Maker = Callable[[Path, str | None], SecretSource]


def in_environment(_: Path, text: str | None) -> SecretSource:
    return source_of("env:SECRET", {} if text is None else {"SECRET": text})


def in_file(folder: Path, text: str | None) -> SecretSource:
    path = folder / "secret"
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    return source_of(f"file:{path}", {})


def by_command(folder: Path, text: str | None) -> SecretSource:
    if text is None:
        return source_of(f"command:{json.dumps([str(folder / 'absent')])}", {})
    (folder / "told").write_text(text)
    words = [sys.executable, "-c", "import sys; print(end=open(sys.argv[1]).read())"]
    return source_of(f"command:{json.dumps([*words, str(folder / 'told')])}", {})


pytestmark = pytest.mark.parametrize(
    "maker", [in_environment, in_file, pytest.param(by_command, marks=pytest.mark.integration)]
)


def test_a_secret_is_told_without_the_end_of_its_line(maker: Maker, tmp_path: Path) -> None:
    assert maker(tmp_path, f" {CANARY} a;$HOME\n").read() == f" {CANARY} a;$HOME"


@pytest.mark.parametrize("text", [None, "", "\n", CANARY * (SECRET_BYTES_MAX // 8)])
def test_none_an_empty_and_an_endless_one_are_refused_and_nothing_is_shown(
    maker: Maker, tmp_path: Path, text: str | None
) -> None:
    source = maker(tmp_path, text)
    with pytest.raises(Infeasible) as refused:
        source.read()
    assert CANARY not in str(refused.value)
    assert CANARY not in repr(source)
