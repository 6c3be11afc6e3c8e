"""The supervisor's socket, over a real one: one line asked, one answered, refusals told."""

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.supervisor.control_socket import ask, serve
from skerry.plumbing.errors import NotFound, SkerryError, Unavailable

pytestmark = pytest.mark.integration


async def echo(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer with the request, refuse `bad`."""
    if request.get("verb") == "bad":
        raise NotFound("there is no such plane")
    return {"asked": dict(request)}


async def test_an_answer_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve(path, echo):
        assert await ask(path, {"verb": "status"}) == {"asked": {"verb": "status"}}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_refusal_comes_back_as_its_message(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve(path, echo):
        with pytest.raises(SkerryError, match="there is no such plane"):
            await ask(path, {"verb": "bad"})
        assert await ask(path, {"verb": "status"}), "one refusal does not end the service"


async def test_nobody_at_the_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no supervisor listens"):
        await ask(tmp_path / "s.sock", {"verb": "status"})


async def test_a_socket_that_a_killed_supervisor_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.touch()
    async with serve(path, echo):
        assert await ask(path, {"verb": "status"})


async def test_a_folder_deeper_than_the_kernels_limit_of_names_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    async with serve(folder / "s.sock", echo):
        assert await ask(folder / "s.sock", {"verb": "status"})


async def test_a_line_that_is_no_request_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve(path, echo):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"hello\n")
        assert b"not a request" in await reader.readline()
        writer.close()
