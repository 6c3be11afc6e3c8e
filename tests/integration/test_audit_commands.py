"""`skerry audit` against a control plane of this process, and both clients' methods."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import append_change, forget_changes
from control_plane.store.leadership import WriteContext
from skerry.cli.main import run
from skerry.client.operator import AsyncOperatorClient, OperatorClient
from tests.fakes.clock import START
from tests.integration.client_world import Client, World, a_world, connected

pytestmark = pytest.mark.integration

CHANGES = tables.changes
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating" / "audit.md"


def record(session: Session, write: WriteContext, count: int) -> None:
    for number in range(count):
        append_change(session, write, "test.made", f"things/{number}", "made")


async def filled(world: World, count: int) -> None:
    write = WriteContext(epoch=world.epoch, actor="user:ada", now=START)
    await world.database.run(record, write, count)


async def command(world: World, *arguments: str) -> int:
    """Run the command line against the first control plane; return its exit code."""
    endpoint = world.control_planes[0].address
    return await asyncio.to_thread(run, [*arguments, "--endpoint", endpoint])


def newest_in(told: str) -> str:
    (line,) = [line for line in told.splitlines() if line.startswith("newest ")]
    return line.removeprefix("newest ")


async def test_verify_tells_how_far_it_looked_and_what_to_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_world(tmp_path) as world:
        await world.started()
        await filled(world, 11)
        assert await command(world, "audit", "verify") == 0
        told = capsys.readouterr().out
        assert "checked 12 changes, 1 to 12" in told
        noted = newest_in(told)
        await filled(world, 2)
        assert await command(world, "audit", "verify", "--expect", noted, "-o", "json") == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["checked"], row["newest"], row["fault"]) == (14, 14, "")


async def test_verify_names_the_first_bad_record_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def alter(session: Session) -> None:
        session.execute(update(CHANGES).where(CHANGES.c.sequence == 7).values(reason="another"))

    async with a_world(tmp_path) as world:
        await world.started()
        await filled(world, 11)
        await world.database.run(alter)
        assert await command(world, "audit", "verify") == 1
        assert "change 7 was altered" in capsys.readouterr().err
        assert await command(world, "audit", "verify", "-o", "json") == 1
        assert json.loads(capsys.readouterr().out)["sequence"] == 7


async def test_verify_tells_what_was_compacted_and_what_is_unprotected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_world(tmp_path) as world:
        await world.started()
        await filled(world, 11)
        write = WriteContext(epoch=world.epoch, actor="user:ada", now=START)
        await world.database.run(forget_changes, write, 5)
        assert await command(world, "audit", "verify") == 0
        told = capsys.readouterr().out
        assert "checked 8 changes, 6 to 13" in told
        assert "compacted up to 5" in told


@pytest.mark.parametrize("noted", ["7", "7:xyz", "x:" + "a" * 64])
async def test_what_is_expected_must_be_a_digest(
    noted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "verify", "--expect", noted]) == 2
    assert "SEQUENCE:DIGEST" in capsys.readouterr().err


async def test_an_export_goes_on_and_is_verified_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "audit.jsonl")
    async with a_world(tmp_path) as world:
        await world.started()
        await filled(world, 600)
        assert await command(world, "audit", "export", "-o", file) == 0
        assert "601 changes, 1 to 601, 601 of them new" in capsys.readouterr().out
        await filled(world, 3)
        whole = (tmp_path / "audit.jsonl").read_bytes()
        (tmp_path / "audit.jsonl").write_bytes(whole[:-300])  # as a kill would leave it
        assert run(["audit", "verify", file]) == 1
        assert "no end after change" in capsys.readouterr().err
        assert await command(world, "audit", "export", "-o", file) == 0
        noted = newest_in(capsys.readouterr().out)
        await command(world, "audit", "verify")
        assert newest_in(capsys.readouterr().out) == noted
        run_the_pages_program(file)
        altered = (tmp_path / "audit.jsonl").read_bytes().replace(b"things/7", b"things/9")
        (tmp_path / "altered.jsonl").write_bytes(altered)
        with pytest.raises(AssertionError):
            run_the_pages_program(str(tmp_path / "altered.jsonl"))
    assert run(["audit", "verify", file, "--expect", noted]) == 0
    assert "checked 604 changes, 1 to 604" in capsys.readouterr().out


def run_the_pages_program(file: str) -> None:
    """Run what docs/operating/audit.md verifies an export with."""
    text = PAGE.read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(program.replace("audit.jsonl", file), {})


async def test_an_export_of_what_is_not_there_any_more_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut(session: Session) -> None:
        session.execute(delete(CHANGES).where(CHANGES.c.sequence > 5))
        session.execute(update(tables.change_counter).values(sequence=5))

    file = str(tmp_path / "audit.jsonl")
    async with a_world(tmp_path) as world:
        await world.started()
        await filled(world, 11)
        assert await command(world, "audit", "export", "-o", file) == 0
        before = (tmp_path / "audit.jsonl").read_bytes()
        await world.database.run(cut)
        assert await command(world, "audit", "export", "-o", file) == 1
        assert "ends at change 12 and can't go on" in capsys.readouterr().err
        assert (tmp_path / "audit.jsonl").read_bytes() == before


async def test_an_export_since_a_time_with_nothing_since_writes_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_world(tmp_path) as world:
        await world.started()
        file = str(tmp_path / "audit.jsonl")
        since = ("--since", "2100-01-01T00:00Z")
        assert await command(world, "audit", "export", *since, "-o", file) == 0
        assert "no changes" in capsys.readouterr().out
        assert not (tmp_path / "audit.jsonl").exists()


@pytest.mark.parametrize("kind", [OperatorClient, AsyncOperatorClient])
async def test_both_clients_verify_and_read_records(kind: type[Client], tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        one = await world.started()
        await filled(world, 700)
        async with connected(kind, one.address) as client:
            *_, row = await listed(client, "iter_verified_changes")
            assert (row.checked, row.newest, row.fault) == (701, 701, "")
            links = await listed(client, "iter_change_records", 1)
            assert [link.sequence for link in links] == list(range(2, 702))
            assert links[-1].digest is not None
            assert links[-1].digest.hex() == row.digest


async def listed(client: Client, method: str, *arguments: Any) -> list[Any]:
    found = getattr(client, method)(*arguments)
    if isinstance(client, AsyncOperatorClient):
        return [row async for row in found]
    return await asyncio.to_thread(list, found)
