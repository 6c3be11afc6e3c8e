"""What a confined program may not do, read off a real one; as another user where we are root."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from skerry.plumbing import confined
from skerry.plumbing.confined import User, spawn_confined, why_no_other_user
from skerry.plumbing.errors import NotFound
from skerry.plumbing.processes import record_of, wait_until_gone

pytestmark = pytest.mark.integration

TELL = (
    "import os,resource,sys\n"
    "print(os.umask(0), resource.getrlimit(resource.RLIMIT_CORE))\n"
    "print(next(l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')).split()[1])\n"
    "print(os.getsid(0) == os.getpid(), sorted(os.environ))\n"
)


async def told(tmp_path: Path, program: str, *words: str, held: tuple[int, ...] = ()) -> list[str]:
    record = spawn_confined(
        [sys.executable, "-ISc", program, *words],
        env={"PATH": os.environ["PATH"], "GIVEN": "1"},
        cwd=None,
        stdout_path=tmp_path / "output",
        held=held,
        user=None,
    )
    await wait_until_gone(record)
    return (tmp_path / "output").read_text().splitlines()


async def test_it_gains_no_privileges_leaves_no_core_and_writes_for_itself_alone(
    tmp_path: Path,
) -> None:
    lines = await told(tmp_path, TELL)
    assert lines[:2] == [f"{0o077} (0, 0)", "1"]
    assert lines[2] in ("True ['GIVEN', 'LC_CTYPE', 'PATH']", "True ['GIVEN', 'PATH']")


async def test_a_program_inherits_the_descriptors_it_is_given_and_no_others(
    tmp_path: Path,
) -> None:
    with (tmp_path / "lock").open("w") as given, (tmp_path / "other").open("w") as other:
        program = (
            "import os, sys\n"
            "for number in sys.argv[1:]:\n"
            "    print(os.path.exists('/proc/self/fd/' + number))\n"
        )
        numbers = (str(given.fileno()), str(other.fileno()))
        lines = await told(tmp_path, program, *numbers, held=(given.fileno(),))
    assert lines == ["True", "False"]


async def test_it_dies_with_its_starter(tmp_path: Path) -> None:
    starter = (
        "import sys\nfrom pathlib import Path\n"
        "from skerry.plumbing.confined import spawn_confined\n"
        "r = spawn_confined(['sleep', '600'], env={'PATH': '/usr/bin:/bin'}, cwd=None,\n"
        "    stdout_path=Path(sys.argv[1]), held=(), user=None)\n"
        "print(r.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", starter, str(tmp_path / "output")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    started = record_of(int(await process.stdout.readline()))
    await process.communicate(b"")
    async with asyncio.timeout(10):
        await wait_until_gone(started)


def test_a_program_that_is_nowhere_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-such-program"):
        spawn_confined(
            ["no-such-program"],
            env={"PATH": "/usr/bin"},
            cwd=None,
            stdout_path=tmp_path / "output",
            held=(),
            user=User(uid=65_534, gid=65_534),
        )


def test_who_lacks_what_a_change_of_user_takes_is_told_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_no_other_user() == "only root may start an engine as another user"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(confined, "_CAPABILITIES", {"NEVER": 63})
    assert why_no_other_user() == "root lacks CAP_NEVER here"
