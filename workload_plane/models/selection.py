"""Which files of a source become the base model: PURE.

Weights come as safetensors or GGUF. A pickle runs whatever its author liked when it is loaded, so
one is taken only where the plane's settings say so.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from skerry.plumbing.errors import Denied, Infeasible, InvalidInput, NotFound
from workload_plane.models.port import RemoteFile

SAFETENSORS, GGUF = ".safetensors", ".gguf"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# Configuration and tokenizers; no code: whatever trusts remote code brings its own.
COMPANIONS = (".json", ".model", ".txt", ".jinja", ".tiktoken", ".yaml", ".yml")
FILES_MAX = 2_000  # the largest checkpoints have some 300 shards
PATH_CHARACTERS_MAX = 255
PATH_DEPTH_MAX = 8
NAMES_SHOWN_MAX = 5

# Some publishers lay the same weights beside the shards in their own format.
_DUPLICATE = "consolidated"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf")


def select_files(
    uri: str, files: Sequence[RemoteFile], *, named: bool, allow_pickle: bool
) -> tuple[RemoteFile, ...]:
    """Return the files to fetch, by path; `named` when the URI names one file itself.

    Raises NotFound, Denied, Infeasible or InvalidInput with what to do.
    """
    for file in files:
        _check_path(uri, file.path)
    if not files:
        raise NotFound(f"base model {uri}: there is no file at its source")
    if named:
        for file in files:
            check_weights(uri, file.path, allow_pickle)
        chosen = list(files)
    else:
        chosen = _choose(uri, files, allow_pickle)
    if len(chosen) > FILES_MAX:
        raise Infeasible(f"base model {uri} has {len(chosen)} files, at most {FILES_MAX} are taken")
    _check_places(uri, [file.path for file in chosen])
    return tuple(sorted(chosen, key=lambda file: file.path))


def main_file(paths: Collection[str]) -> str:
    """Return the file that an engine is given, "" when it is given the directory."""
    weights = sorted(path for path in paths if path.endswith(GGUF))
    others = [path for path in paths if path.endswith((SAFETENSORS, *PICKLES))]
    if weights and not others:
        return weights[0]  # llama.cpp finds the other shards beside the first
    return ""


def shards_of(path: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the names of all shards of a split GGUF, or the path alone."""
    match = _SHARD.fullmatch(path)
    if match is None:
        return (path,)
    count = match["count"]
    wanted = tuple(f"{match['stem']}-{i:05}-of-{count}.gguf" for i in range(1, int(count) + 1))
    return tuple(name for name in wanted if name in names)


def _choose(uri: str, files: Sequence[RemoteFile], allow_pickle: bool) -> list[RemoteFile]:
    names = [file.path for file in files]
    safe = [name for name in names if name.endswith(SAFETENSORS)]
    gguf = [name for name in names if name.endswith(GGUF)]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if safe:
        # Checkpoints in the root, not the author's original ones in folders below it.
        top = [name for name in safe if "/" not in name]
        weights = top or safe
        if any(not name.startswith(_DUPLICATE) for name in weights):
            weights = [name for name in weights if not name.startswith(_DUPLICATE)]
    elif gguf:
        weights = _one_gguf(uri, gguf)
        return [file for file in files if file.path in weights]
    elif pickles:
        if not allow_pickle:
            raise pickle_refusal(uri, pickles[0])
        weights = pickles
    else:
        raise NotFound(f"base model {uri}: no {SAFETENSORS} and no {GGUF} among {_some(names)}")
    folder_only = bool(safe) and not any("/" in name for name in weights)
    return [
        file
        for file in files
        if file.path in weights
        or (file.path.endswith(COMPANIONS) and not (folder_only and "/" in file.path))
    ]


def _one_gguf(uri: str, names: Sequence[str]) -> list[str]:
    first = names[0]
    shards = shards_of(first, names)
    if set(names) == set(shards):
        return list(names)
    raise InvalidInput(
        f"base model {uri} has {len(names)} GGUF files; name one: {uri.rstrip('/')}/NAME"
        f" with NAME of {_some(names)}"
    )


def check_weights(uri: str, path: str, allow_pickle: bool) -> None:
    """Raise Denied for a pickle that is not allowed, InvalidInput for what holds no weights."""
    if path.endswith((SAFETENSORS, GGUF)):
        return
    if path.endswith(PICKLES):
        if allow_pickle:
            return
        raise pickle_refusal(uri, path)
    raise InvalidInput(
        f"base model {uri} must be a {SAFETENSORS} or {GGUF} file, or a directory with some"
    )


def pickle_refusal(uri: str, path: str) -> Denied:
    """Return why a file is not taken, with what to do."""
    return Denied(
        f"base model {uri}: {path} may be a pickle, which runs code when it is loaded; convert it"
        f" to {SAFETENSORS}, or set model_cache.allow_pickle in the plane's settings"
    )


def _check_path(uri: str, path: str) -> None:
    parts = PurePosixPath(path).parts
    fine = (
        0 < len(path) <= PATH_CHARACTERS_MAX
        and path.isprintable()
        and "\\" not in path
        and not path.startswith("/")
        and path == "/".join(parts)
        and ".." not in parts
        and len(parts) <= PATH_DEPTH_MAX
    )
    if not fine:
        raise InvalidInput(f"base model {uri} has a file {path[:80]!r}, which is no plain path")


def _check_places(uri: str, paths: Sequence[str]) -> None:
    """Raise InvalidInput when two files would be written to one place."""
    seen = set(paths)
    if len(seen) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InvalidInput(f"base model {uri} has the file {twice[:80]!r} twice; repair its source")
    for path in paths:
        for folder in PurePosixPath(path).parents:
            if folder.as_posix() in seen:
                raise InvalidInput(
                    f"base model {uri} has {folder.as_posix()[:80]!r} as a file and as a folder;"
                    " rename one of them at its source"
                )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    more = len(names) - NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
