"""What of a data directory goes into a support archive: found by name, nothing by default.

Works while everything is down. Keys, tokens, databases, base models and prompts are not looked at.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from skerry.cli.support.archive import FILE_BYTES_MAX, Archive
from skerry.cli.support.shown import CONTROL_PLANE, PLANE, Shown, shown_settings
from skerry.fleet.service_token import PREFIX
from skerry.plumbing.errors import InvalidInput

# The end of each log, of which there are five for each plane.
LOG_BYTES_MAX = 512 * 1024
_SECRET_BYTES_MAX = 64 * 1024
_STATUS = ("agent.json", "demand.json", "endpoints.json", "picker.json", "relay.json")
_OF_FLEET = ("fleet.json", "prometheus-targets.json", "drill.json")
# Of the gateway's folder: not `secrets`, which name the keys, nor the copies of what is here.
_GATEWAY = (
    "bootstrap.json",
    "bootstrap.proposed.json",
    "listeners/*.json",
    "clusters/*.json",
    "routes/**/*.json",
    "endpoints/**/*.json",
)
_PLANE_LOGS = ("agent", "front", "gateway", "picker", "relay")
_NOT_READ = (
    ("pki/", "keys and certificates"),
    ("operator.token", "a credential"),
    ("api.key", "a credential"),
    ("config.yaml", "it names a credential"),
    ("layout.json", "it may name a database with its password"),
    ("control-plane/skerry.db", "the database: `skerry backup` copies it"),
    ("planes/*/gateway/secrets/", "where keys are"),
    ("planes/*/identity/", "a key and its certificate"),
)


def gather(archive: Archive, root: Path, *, with_engine_logs: bool) -> None:
    """Take in what the data directory tells of its fleet."""
    for name in _OF_FLEET:
        _take(archive, root, root / name)
    for home in sorted(root.glob("control-plane*")):
        _take_settings(archive, root, home / "settings.json", CONTROL_PLANE)
        _take_log(archive, root, home / "log")
    _take_log(archive, root, root / "supervisor.log")
    for plane in sorted((root / "planes").glob("*")):
        _take_settings(archive, root, plane / "settings.json", PLANE)
        for name in _STATUS:
            _take(archive, root, plane / name)
        for pattern in _GATEWAY:
            for path in sorted((plane / "gateway").glob(pattern)):
                _take(archive, root, path)
        for name in _PLANE_LOGS:
            _take_log(archive, root, plane / "logs" / f"{name}.log")
        _take_replica_logs(archive, root, plane, with_engine_logs=with_engine_logs)
    for name, why in _NOT_READ:
        archive.leave_out(name, why)


def _take_replica_logs(
    archive: Archive, root: Path, plane: Path, *, with_engine_logs: bool
) -> None:
    known = {f"{name}.log" for name in _PLANE_LOGS}
    logs = plane / "logs"
    for path in sorted(path for path in logs.glob("*.log") if path.name not in known):
        _take_log(archive, root, path)
    engines = sorted(logs.glob("*/*.log"))
    for path in engines if with_engine_logs else ():
        _take_log(archive, root, path)
    if engines and not with_engine_logs:
        why = "engines may write users' prompts into them; --engine-logs takes them in"
        archive.leave_out(f"{_name(root, logs)}/*/*.log ({len(engines)} files)", why)


def _take(archive: Archive, root: Path, path: Path) -> None:
    _read_end(archive, root, path, FILE_BYTES_MAX)


def _take_log(archive: Archive, root: Path, path: Path) -> None:
    _read_end(archive, root, path, LOG_BYTES_MAX)


def _read_end(archive: Archive, root: Path, path: Path, bytes_max: int) -> None:
    """Take in the last bytes of a file; one that is not there is no fault."""
    if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        return
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - bytes_max))
            data = file.read(bytes_max)
    except OSError as error:
        archive.leave_out(_name(root, path), f"cannot be read: {error.strerror}")
        return
    archive.add(_name(root, path), data, size)


def _take_settings(archive: Archive, root: Path, path: Path, shown: Shown) -> None:
    if not path.is_file():
        return
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        archive.leave_out(_name(root, path), f"cannot be read as settings: {type(error).__name__}")
        return
    told = json.dumps(shown_settings(values, shown), indent=1).encode() + b"\n"
    archive.add(_name(root, path), told)


def _name(root: Path, path: Path) -> str:
    return f"disk/{path.relative_to(root).as_posix()}"


def secrets_of(root: Path) -> frozenset[bytes]:
    """Return what the data directory holds that no file of the archive may hold."""
    return frozenset(secret for secret in _secrets(root) if len(secret) >= len(PREFIX) + 4)


def _secrets(root: Path) -> Iterator[bytes]:
    keys = (*root.glob("pki/**/*.key"), *root.glob("planes/*/identity/*.key"))
    for path in (root / "operator.token", root / "api.key", *keys):
        try:
            data = path.read_bytes()[:_SECRET_BYTES_MAX].strip()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be read ({error.strerror}), so nobody can say that it is not told;"
                " run this as the user who runs the fleet"
            ) from None
        yield data
        # Of a key the lines between its marks, however they are wrapped elsewhere.
        yield from (line for line in data.splitlines() if not line.startswith(b"-----"))
