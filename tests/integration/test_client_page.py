"""The page for Python users is run as it stands, as one program, against a control plane."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.integration.test_fleet_questions import a_control_plane

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/operating/client.md"
SECONDS_MAX = 120


def program() -> str:
    """Return every `python` block of the page, at the lines where the page has them."""
    lines = []
    is_code = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        is_code = is_code and line != "```"
        lines.append(line if is_code else "")
        is_code = is_code or line == "```python"
    return "\n".join(lines)


def test_the_page_has_no_other_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) == {"python"}


async def test_every_block_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    async with a_control_plane(tmp_path):
        settings = json.loads((tmp_path / "settings.json").read_text())
        file = tmp_path / PAGE.with_suffix(".py").name
        file.write_text(program())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(file)),
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SKERRY_ENDPOINT": settings["operator_address"],
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS_MAX):
            output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "2 planes are connected" in output
    assert "read it again, decide anew:" in output
    assert "deployment 'nowhere' does not exist" in output
