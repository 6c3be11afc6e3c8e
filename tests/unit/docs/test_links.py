"""Every link of every page leads somewhere: to a file of this tree, and to a heading of it."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:")  # https:, mailto:
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def pages() -> list[str]:
    """Return every page of ours; generated ones too."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [name for name in listed if (ROOT / name).is_file()]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the names that a page's headings have where it is read."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        shown = LINK.sub("]", heading).replace("[", "").replace("]", "").lower()
        name = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        twice = sum(
            one == name or re.fullmatch(rf"{re.escape(name)}-\d+", one) is not None for one in found
        )
        found.add(f"{name}-{twice}" if twice else name)
    return frozenset(found)


def dead_links(name: str) -> list[str]:
    """Return what a page links to that is not there."""
    page = ROOT / name
    # Entries of the change log are read at the root: CHANGELOG.md is made of them.
    base = ROOT if name.startswith("changes/") else page.parent
    dead = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (base / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(f"{name}: {link}")
    return dead


@pytest.mark.integration  # git is a process
def test_every_link_leads_to_a_file_and_a_heading_of_it() -> None:
    assert [link for name in pages() for link in dead_links(name)] == []


def test_a_heading_is_found_by_the_name_that_readers_get(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n\n## What's next?\n\n## What's next?\n", encoding="utf-8")
    assert anchors(page) == {"one-two-three", "whats-next", "whats-next-1"}
