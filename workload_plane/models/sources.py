"""Base models that lie on this machine already; the agent resolves one before it starts a replica.

Only what is listed here is opened: a URI comes from outside and must not reach other files. What
comes from elsewhere is the cache's (`cache`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from skerry.fleet.names import InvalidName, check_name
from skerry.plumbing.errors import Denied, Infeasible, InvalidInput, NotFound
from workload_plane.models.selection import PICKLES, SAFETENSORS, check_weights, pickle_refusal
from workload_plane.models.uris import REMOTE_SCHEMES, is_remote

BUILTIN, FILE, SIMULATED = "builtin", "file", "simulated"
_SUFFIX = ".gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModelFile:
    """A base model that is there; `path` is None when its engine needs no weights."""

    uri: str
    path: Path | None
    size_bytes: int = 0


def resolve(uri: str, model_dirs: Sequence[Path], *, allow_pickle: bool = False) -> BaseModelFile:
    """Return the file behind a base model's URI, unread: `local_checks` looks into it.

    Raises NotFound, Denied, Infeasible or InvalidInput, each saying what to do.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidInput(f"base model {uri[:80]!r} is no URI: {error}") from None
    if parts.scheme == SIMULATED:
        return BaseModelFile(uri=uri, path=None)
    if parts.scheme == BUILTIN:
        return _builtin(uri, parts.netloc + parts.path, model_dirs)
    if parts.scheme == FILE:
        path = _file(uri, parts.netloc, unquote(parts.path))
        return _weights(uri, _inside(uri, path, model_dirs), allow_pickle)
    if is_remote(uri):
        raise Infeasible(
            f"base model {uri!r}: nothing is fetched here; put the file into a model directory of"
            " the plane and name it builtin://NAME or file:///PATH"
        )
    known = ", ".join(f"{scheme}://" for scheme in (BUILTIN, FILE, SIMULATED, *REMOTE_SCHEMES))
    raise InvalidInput(f"base model {uri!r} must start with one of {known}")


def _builtin(uri: str, name: str, model_dirs: Sequence[Path]) -> BaseModelFile:
    try:
        check_name(name, "builtin model")
    except InvalidName as error:
        raise InvalidInput(str(error)) from None
    for directory in model_dirs:
        path = directory / f"{name}{_SUFFIX}"
        if path.is_file():
            return _weights(uri, _inside(uri, path, (directory,)), allow_pickle=False)
    looked = ", ".join(str(directory) for directory in model_dirs) or "no model directory is set"
    raise NotFound(
        f"base model {uri!r}: there is no {name}{_SUFFIX} in the plane's model directories"
        f" ({looked}); put it there"
    )


def _file(uri: str, host: str, path: str) -> Path:
    if host not in ("", "localhost") or not path.startswith("/"):
        raise InvalidInput(
            f"base model {uri!r} must be an absolute path: file:///DIR/NAME.gguf, or file:///DIR"
        )
    if not Path(path).exists():
        raise NotFound(f"base model {uri!r} does not exist on this plane; copy it there")
    return Path(path)


def _inside(uri: str, path: Path, model_dirs: Sequence[Path]) -> Path:
    """Return where the path leads; raises Denied when that is in none of the directories."""
    real = path.resolve()
    # A link out of the directory is an escape as much as `..` is; a model directory that is
    # itself a link is the operator's own choice.
    # Its own first, and no more than that one asked: another may be on a disk that hangs.
    roots = sorted(model_dirs, key=lambda entry: not path.is_relative_to(entry))
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise Denied(
            f"base model {uri!r} lies outside the plane's model directories; add its directory to"
            " model_dirs in the plane's settings"
        )
    return real


def _weights(uri: str, real: Path, allow_pickle: bool) -> BaseModelFile:
    if not real.is_dir():
        check_weights(uri, real.name, allow_pickle)
        return BaseModelFile(uri=uri, path=real, size_bytes=real.stat().st_size)
    weights = sorted(real.glob(f"*{SAFETENSORS}"))
    pickles = sorted(one for one in real.iterdir() if one.name.endswith(PICKLES))
    if not weights and pickles:
        if not allow_pickle:
            raise pickle_refusal(uri, pickles[0].name)
        weights = pickles
    if not weights:
        raise InvalidInput(
            f"base model {uri!r} is a directory without {SAFETENSORS} files; name the file itself"
        )
    size = sum(path.stat().st_size for path in weights)
    return BaseModelFile(uri=uri, path=real, size_bytes=size)
