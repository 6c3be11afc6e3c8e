"""Runbooks name only commands that exist: nobody should find that out at night."""

import re
from pathlib import Path
from typing import Any

import typer.main

from skerry.cli.main import app

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operating" / "runbooks.md"


def test_every_command_of_the_runbooks_exists() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
    named = re.findall(r"`skerry ([a-z-]+)((?: [a-z-]+)?)", text)
    root: Any = typer.main.get_command(app)
    assert named
    for command, rest in named:
        assert command in root.commands, command
        below = getattr(root.commands[command], "commands", None)
        if below is not None and rest:
            assert rest.strip() in below, f"{command}{rest}"
