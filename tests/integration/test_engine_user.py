"""Engines as a user of their own: what they reach, what they do not, and that they end as any."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName
from skerry.plumbing.confined import User, spawn_confined, why_no_other_user
from skerry.plumbing.processes import is_alive, terminate, wait_until_gone
from tests.integration.replica_process import (
    CLOCK,
    MODEL,
    RunningReplica,
    a_spec,
    an_engine,
    environment_of_process,
    post_json,
    running_replica,
    until,
)
from tests.unit.workload_plane.replicas.test_local import ORDER
from workload_plane.engine_user import EngineUser
from workload_plane.replica_host.ending import STOP_SECONDS_MAX
from workload_plane.replica_host.engine_process import last_words
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.marks import left_of
from workload_plane.replica_host.spec import ReplicaSpec, write_spec
from workload_plane.replica_host.state import read_record
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.recovery import state_path

pytestmark = pytest.mark.integration

UID, GID, EXTRA = 65_533, 65_532, 65_531
ROOT = Path(__file__).parents[2]
# Opens a file, and says its size or why not.
OPENS = (
    "import os,sys\ntry: print(os.stat(os.open(sys.argv[1], os.O_RDONLY)).st_size)\n"
    "except OSError as error: print(error.errno)"
)
NOT_PERMITTED = 13


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plane's directory that others may come to, and a Python that they may run."""
    if why := why_no_other_user():
        pytest.skip(f"NO ENGINE'S OWN USER IS TESTED HERE: {why}")
    if (python := a_python_for_all()) is None:
        why = "no Python of this release can be run by every user of this host"
        pytest.skip(f"NO ENGINE'S OWN USER IS TESTED HERE: {why}")
    monkeypatch.setattr(sys, "executable", python)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), packages)))
    above = Path(tempfile.mkdtemp(prefix="skerry-engine-user-"))
    above.chmod(0o755)
    directory = above / "plane"
    directory.mkdir(mode=0o700)
    yield directory
    shutil.rmtree(above, ignore_errors=True)


def a_python_for_all() -> str | None:
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [python, "-Ic", version], user=UID, group=GID, extra_groups=[], check=True
            )
            return python
    return None


def spec_of(plane: Path, name: EngineName) -> ReplicaSpec:
    home = plane / "replicas" / "demo-1"
    home.mkdir(parents=True, mode=0o700)
    home.parent.chmod(0o700)
    model = plane / "models" / "tiny.gguf"
    model.parent.mkdir(mode=0o700)
    shutil.copy(MODEL, model)
    model.chmod(0o600)
    user = EngineUser(uid=UID, gid=GID, groups=(EXTRA,), home=plane / "engine-home", within=plane)
    return a_spec(home, an_engine(name), engine_user=user, model_path=str(model))


def ids_of(replica: RunningReplica) -> dict[str, list[str]]:
    engine = replica.record().engine
    assert engine is not None
    lines = Path(f"/proc/{engine.pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    wanted = ("Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapPrm")
    return {name: sorted(set(fields[name].split())) for name in wanted}


@pytest.mark.parametrize("name", [EngineName.LLAMACPP, EngineName.SIMULATED])
async def test_an_engine_with_a_user_of_its_own_serves_and_ends(
    plane: Path, name: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKERRY_API_KEY", "skerry-canary")
    async with running_replica(spec_of(plane, name)) as replica:
        assert ids_of(replica) == {
            "Uid": [str(UID)],
            "Gid": [str(GID)],
            "Groups": [str(EXTRA)],
            "NoNewPrivs": ["1"],
            "CapEff": ["0" * 16],
            "CapPrm": ["0" * 16],
        }
        record = replica.record()
        assert (record.note, record.message) == ("", "")
        engine = record.engine
        assert engine is not None
        assert b"skerry-canary" not in environment_of_process(engine.pid)
        body = {"model": replica.spec.served_name, "prompt": "The sea", "max_tokens": 4}
        status, _ = await post_json(f"{replica.http}/v1/completions", body)
        assert status == 200
        # What fencing looks for is seen across users, too.
        left = left_of({"demo-1": replica.spec.state_file})["demo-1"]
        assert engine.pid in [one.pid for one in left]
    assert not is_alive(engine)
    assert left_of({"demo-1": replica.spec.state_file}) == {}


async def test_an_engine_cannot_read_keys_desired_state_and_other_replicas(plane: Path) -> None:
    spec = spec_of(plane, EngineName.SIMULATED)
    secrets = [plane / "tls" / "plane.key", plane / "desired" / "desired.skerry"]
    for path in (*secrets, plane / "plain"):
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_text("secret")
        path.chmod(0o600)
    # A base model whose link leads to the key opens nothing.
    model = plane / "models" / "folder"
    model.mkdir(mode=0o700)
    (model / "weights.gguf").symlink_to(secrets[0])
    spec = dataclasses.replace(spec, model_path=str(model))
    async with running_replica(spec):
        user = spec.engine_user
        assert user is not None
        found = [await read_as(user, path, plane) for path in (*secrets, plane, plane / "plain")]
    assert found == [NOT_PERMITTED] * 4
    assert stat.S_IMODE(os.stat(plane).st_mode) == 0o710
    assert await read_as(user, model, plane) > NOT_PERMITTED
    assert await read_as(user, model / "weights.gguf", plane) == NOT_PERMITTED


async def test_an_agent_that_comes_back_has_the_replica_and_ends_it(plane: Path) -> None:
    user = EngineUser(uid=UID, gid=GID, home=plane / "engine-home", within=plane)
    place = LocalPlace(
        plane="here",
        replicas_dir=plane / "replicas",
        logs_dir=plane / "logs",
        engine_user=user,
    )
    started = await LocalRuntime(place, CLOCK).start(ORDER)
    path = state_path(place.replicas_dir, ORDER.name)
    await until(lambda: path.exists() and _is_ready(path))
    engine = read_record(path).engine
    assert engine is not None
    runtime = LocalRuntime(place, CLOCK)  # the next agent's, which remembers nothing
    (found,) = await runtime.list()
    assert (found.alive, found.record.pid, found.record.engine_pid) == (
        True,
        started.pid,
        engine.pid,
    )
    await runtime.stop(found.record, STOP_SECONDS_MAX)
    assert not is_alive(engine)
    assert await runtime.list() == ()


async def test_an_engine_whose_user_cannot_be_changed_runs_and_says_so(plane: Path) -> None:
    # The host below is no root's: nothing but its uid says so to the one that starts it.
    spec = spec_of(plane, EngineName.SIMULATED)
    for path in (plane, plane / "replicas", spec.state_file.parent):
        os.chown(path, UID, GID)
    owner = User(uid=UID, gid=GID)
    wanted = dataclasses.replace(
        spec, engine_user=EngineUser(uid=60_900, gid=60_900, home=plane, within=plane)
    )
    path = spec.state_file.with_name("spec.json")
    write_spec(path, wanted)
    host = spawn_confined(
        [sys.executable, "-m", "workload_plane.replica_host.main", "--spec", str(path)],
        env=dict(os.environ),
        cwd=Path("/"),
        stdout_path=plane / "host.log",
        held=(),
        user=owner,
    )
    try:
        await until(lambda: spec.state_file.exists() and _is_ready(spec.state_file))
        note = f"the engine runs as user {UID}, not as engine_user 60900: only root may"
        assert read_record(spec.state_file).note.startswith(note)
        log = await asyncio.to_thread((plane / "host.log").read_text)
        assert log.count("engine.user-not-changed") == 1
    finally:
        await terminate(host, CLOCK, 10.0)


def _is_ready(path: Path) -> bool:
    return read_record(path).state is HostState.READY


async def read_as(user: EngineUser, path: Path, directory: Path) -> int:
    """Return what a process that is started as an engine says of the file."""
    record = spawn_confined(
        [sys.executable, "-ISc", OPENS, str(path)],
        env={},
        cwd=user.home,
        stdout_path=directory / "told",
        held=(),
        user=User(uid=user.uid, gid=user.gid, groups=user.groups),
    )
    await wait_until_gone(record)
    return int((directory / "told").read_text().split()[-1])


async def test_what_the_engines_user_cannot_reach_is_told_with_the_remedy(plane: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp(prefix="skerry-closed-"))  # 0700, and not the plane's
    model = elsewhere / "tiny.gguf"
    shutil.copy(MODEL, model)
    try:
        spec = dataclasses.replace(spec_of(plane, EngineName.LLAMACPP), model_path=str(model))
        async with running_replica(spec, state=HostState.FAILED) as replica:
            message = replica.record().message
    finally:
        shutil.rmtree(elsewhere)
    assert f"engine_user {UID} (group {GID}) cannot read {model}" in message
    assert last_words(spec) == ""
