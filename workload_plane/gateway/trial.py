"""A trial start: would an Envoy of this release, with the files as they are, serve?

The agent asks before a changed bootstrap takes the place of the one that a running gateway has, and
`plane.py try-gateway` before an upgrade. The trial runs beside the gateway on ports of the kernel's
choice and a copy of the files, and is killed once it serves or has said why not.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.processes import (
    ProcessRecord,
    is_alive,
    signal_process,
    spawn,
    wait_until_gone,
)
from workload_plane.gateway import files
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.files import BOOTSTRAP
from workload_plane.gateway.order import plan_steps
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.wire import Json

# A start takes 0.3 s, first health checks a second more, a busy two-core machine five times that.
TRIAL_SECONDS_MAX = 20.0
_LOOK_SECONDS = 0.05
_FOLDER_PREFIX = "skerry-trial-"
# No trial takes that long, so nobody is in it; a step of the clock is seldom that wide.
_STALE_SECONDS = 3600.0
_STALE_REMOVED_MAX = 16
_LOG_BYTES_SHOWN = 400
_LIVE = 0  # of `server.state`
_STATS = (
    r"^(server\.state|listener_manager\.(total_listeners_active|lds\.update_rejected"
    r"|listener_create_failure)|cluster_manager\.cds\.update_rejected"
    r"|http\.\w+\.rds\.\w+\.update_rejected)$"
)


async def try_start(gateway_dir: Path, clock: Clock, bootstrap: str = BOOTSTRAP) -> str:
    """Return why a new Envoy would not serve from the folder's files; empty when it does."""
    await asyncio.to_thread(_remove_stale, clock.now().timestamp())
    # Short: the admin's socket is in it, and a socket's path has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
    try:
        listeners = await asyncio.to_thread(_copy, gateway_dir, folder, bootstrap)
        return await _run(folder, listeners, clock)
    except (OSError, ValueError, KeyError, SkerryError) as error:
        return f"the trial could not be made: {error}"
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _remove_stale(now: float) -> None:
    """Remove what trials of this user's left that were killed; `now` is in seconds of the epoch."""
    left = Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*")
    stale = (folder for folder in left if _is_stale(folder, now))
    for folder in itertools.islice(stale, _STALE_REMOVED_MAX):
        shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path, now: float) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return is_own and now - found.st_mtime > _STALE_SECONDS


def _copy(gateway_dir: Path, folder: Path, bootstrap: str) -> int:
    """Write the files anew with other paths and ports, and return how many listeners there are."""
    root = gateway_dir.resolve()
    snapshot = files.load_published(root)
    if snapshot is None:
        raise ValueError(f"nothing was published in {root} yet")
    moved = Snapshot(
        listeners=tuple(_elsewhere(one, root, folder) for one in snapshot.listeners),
        routes=snapshot.routes,
        clusters=tuple(_moved(one, root, folder) for one in snapshot.clusters),
        endpoints=snapshot.endpoints,
        secrets=snapshot.secrets,
    )
    for step in plan_steps(None, moved):
        files.apply_step(folder, step)
    told = _moved(json.loads((root / bootstrap).read_bytes()), root, folder)
    told["admin"]["address"] = {"pipe": {"path": str(_admin(folder))}}
    files.write_bootstrap(folder, told)
    return len(moved.listeners)


def _elsewhere(listener: Json, root: Path, folder: Path) -> Json:
    """Return the listener on a port that the kernel chooses, of loopback only."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {**_moved(listener, root, folder), "address": address}


def _moved(resource: Json, root: Path, folder: Path) -> Json:
    """Return the resource with all paths below the gateway's folder moved to the trial's."""
    moved: Json = _replaced(resource, f"{root}/", f"{folder}/")
    return moved


def _replaced(value: Any, old: str, new: str) -> Any:
    match value:
        case dict():
            return {key: _replaced(inner, old, new) for key, inner in value.items()}
        case list() | tuple():
            return [_replaced(inner, old, new) for inner in value]
        case str() if value.startswith(old):
            return new + value.removeprefix(old)
        case _:
            return value


async def _run(folder: Path, listeners: int, clock: Clock) -> str:
    log = folder / "envoy.log"
    process = spawn(
        envoy_argv(folder), env=dict(os.environ), cwd=folder, stdout_path=log, die_with_parent=True
    )
    try:
        async with asyncio.timeout(TRIAL_SECONDS_MAX):
            return await _until_decided(folder, process, listeners, clock)
    except TimeoutError:
        return f"it did not serve within {TRIAL_SECONDS_MAX:.0f} s{_last_words(log)}"
    finally:
        signal_process(process, signal.SIGKILL)
        await wait_until_gone(process)


async def _until_decided(folder: Path, process: ProcessRecord, listeners: int, clock: Clock) -> str:
    log = folder / "envoy.log"
    connector = aiohttp.UnixConnector(path=str(_admin(folder)))
    async with aiohttp.ClientSession(connector=connector) as session:
        while True:
            if not is_alive(process):
                return f"it ended at once{_last_words(log)}"
            values = await _stats(session)
            refused = sorted(name for name, value in values.items() if value and _refuses(name))
            if refused:
                return f"it refuses its files ({', '.join(refused)}){_last_words(log)}"
            active = values.get("listener_manager.total_listeners_active")
            if values.get("server.state") == _LIVE and active == listeners:
                return ""
            await clock.sleep(_LOOK_SECONDS)


async def _stats(session: aiohttp.ClientSession) -> dict[str, Any]:
    try:
        url = "http://admin/stats"
        async with session.get(url, params={"format": "json", "filter": _STATS}) as response:
            body = await response.json(content_type=None)
        return {one["name"]: one["value"] for one in body["stats"] if "name" in one}
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        return {}


def _refuses(statistic: str) -> bool:
    return statistic.endswith(("_rejected", "_failure"))


def _admin(folder: Path) -> Path:
    return folder / "admin.sock"


def _last_words(log: Path) -> str:
    try:
        text = log.read_bytes()[-_LOG_BYTES_SHOWN:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return f"; its log ends: {lines[-1]}" if lines else ""
