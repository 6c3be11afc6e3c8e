"""What of a running fleet goes into a support archive: the operator API's lists, pages of metrics.

What does not answer is left out and told; the archive is for when things are down.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.cli.support.archive import FILE_BYTES_MAX, Archive
from skerry.plumbing.errors import SkerryError, Unavailable

if TYPE_CHECKING:
    import aiohttp

    from skerry.cli.session import Session
    from skerry.client.operator import OperatorClient
    from skerry.client.rows import ChangeRow

CHANGES_MAX = 5_000
PAGES_MAX = 500
PAGES_AT_ONCE = 16
PAGE_SECONDS_MAX = 5.0
_PLAIN = re.compile(r"[^A-Za-z0-9.-]+")


def ask_control_plane(archive: Archive, session: "Session", since: datetime) -> None:
    """Take in every list of the operator API, and the changes since a moment."""
    from skerry.cli.get import KINDS

    # Changes are asked for below; of revisions there is a list for each deployment, and what they
    # are is in the deployments and in the changes.
    kinds = [kind for kind in KINDS if kind not in ("changes", "revisions")]
    try:
        with session.operator() as client:
            for number, kind in enumerate(kinds):
                _take_kind(archive, client, kind, must_answer=number == 0)
            _take_changes(archive, client, since)
    except SkerryError as error:
        archive.leave_out("api/", f"the operator API: {error.message}")


def _take_kind(archive: Archive, client: "OperatorClient", kind: str, *, must_answer: bool) -> None:
    from skerry.cli.get import read_all
    from skerry.cli.render import render_json
    from skerry.client.operator_calls import Which

    try:
        archive.add(f"api/{kind}.json", render_json(read_all(client, kind, Which())).encode())
    except Unavailable as error:
        if must_answer:  # nobody waits a dozen times for what is not there
            raise
        archive.leave_out(f"api/{kind}.json", error.message)
    except SkerryError as error:
        archive.leave_out(f"api/{kind}.json", error.message)


def _take_changes(archive: Archive, client: "OperatorClient", since: datetime) -> None:
    from skerry.cli.render import render_json

    try:
        newest = list(_since(client, since))
    except SkerryError as error:
        archive.leave_out("api/changes.json", error.message)
        return
    archive.add("api/changes.json", render_json(tuple(newest[:CHANGES_MAX][::-1])).encode())
    if len(newest) > CHANGES_MAX:
        archive.leave_out("older changes", f"the newest {CHANGES_MAX} are in it")


def _since(client: "OperatorClient", since: datetime) -> "Iterator[ChangeRow]":
    for number, change in enumerate(client.iter_newest_changes()):
        if change.time < since or number > CHANGES_MAX:
            return
        yield change


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of metrics: the name that it gets, and where it is."""

    name: str
    url: str


def pages_of(targets: Path) -> tuple[Page, ...]:
    """Return the pages that a prometheus-targets.json names; ValueError where it is none."""
    found = []
    for one in json.loads(targets.read_bytes()):
        labels = one["labels"]
        told = (labels["job"], labels.get("plane", ""), labels.get("replica", ""))
        path = labels.get("__metrics_path__", "/metrics")
        for address in one["targets"]:
            name = _PLAIN.sub("-", "--".join(filter(None, (*told, address))))
            found.append(Page(name=f"metrics/{name}.txt", url=f"http://{address}{path}"))
    return tuple(found[:PAGES_MAX])


def ask_pages(archive: Archive, root: Path) -> None:
    """Take in the pages of metrics of the processes of a data directory."""
    try:
        pages = pages_of(root / "prometheus-targets.json")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        archive.leave_out("metrics/", "there is no prometheus-targets.json that could be read")
        return
    asyncio.run(_read_pages(archive, pages))


async def _read_pages(archive: Archive, pages: tuple[Page, ...]) -> None:
    import aiohttp

    turns = asyncio.Semaphore(PAGES_AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=PAGE_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as http:

        async def read(page: Page) -> None:
            async with turns:
                await _read_page(archive, http, page)

        async with asyncio.TaskGroup() as group:
            for page in pages:
                group.create_task(read(page))


async def _read_page(archive: Archive, http: "aiohttp.ClientSession", page: Page) -> None:
    import aiohttp

    try:
        async with http.get(page.url) as answer:
            data = b""
            while len(data) <= FILE_BYTES_MAX and (more := await answer.content.read(2**16)):
                data += more
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        archive.leave_out(page.name, f"{page.url} does not answer: {type(error).__name__}")
        return
    archive.add(page.name, data)
