"""Files named on the command line: `-f FILE`, `-f DIR`, `-f -`, several; all read or none used."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from skerry.cli.session import UsageFault, usage

if TYPE_CHECKING:
    from skerry.client.manifest import Object
    from skerry.fleet.deployment import Deployment

STDIN = "-"
ENTRIES_MAX = 10_000  # below one directory; ten times what a call takes, so it is the wrong one
_SUFFIXES = (".yaml", ".yml")


def read_objects(names: Sequence[str]) -> "tuple[tuple[str, Object], ...]":
    """Return (file, object) for every document of every file; UsageFault names all that are bad.

    Each thing may stand in one of the files only, and so may the name that a deployment is served
    by.
    """
    from skerry.client.manifest import Object, in_words, read_objects
    from skerry.fleet.deployment import Deployment
    from skerry.fleet.intent import subject_of

    found: dict[object, tuple[str, Object]] = {}
    served: dict[str, tuple[str, str]] = {}
    faults: list[str] = []
    for name in _files(names):
        try:
            with usage():
                objects = read_objects(_read(name), _shown(name))
        except UsageFault as fault:
            faults.append(fault.message)
            continue
        for one in objects:
            subject = one.name if isinstance(one, Deployment) else subject_of(one)
            if subject in found:
                first = found[subject][0]
                faults.append(f"{_shown(name)}: {in_words(one)} is in {first} too")
                continue
            found[subject] = (_shown(name), one)
            if isinstance(one, Deployment):
                served_name = one.revision.base_model.served_name
                first, other = served.setdefault(served_name, (_shown(name), one.name))
                if other != one.name:
                    faults.append(
                        f"{_shown(name)}: {in_words(one)}: {served_name!r} is served by"
                        f" deployment {other!r} of {first} already"
                    )
    if faults:
        raise UsageFault("\n".join(faults))
    return tuple(found.values())


def read_deployments(names: Sequence[str]) -> "tuple[tuple[str, Deployment], ...]":
    """Return (file, deployment) for every deployment of every file, whatever else they say."""
    from skerry.fleet.deployment import Deployment

    every = read_objects(names)
    found = tuple((name, one) for name, one in every if isinstance(one, Deployment))
    if every and not found:
        raise UsageFault(f"{', '.join(map(_shown, names))}: there is no deployment in it")
    return found


def _files(names: Sequence[str]) -> Iterator[str]:
    """Yield the files that are named, in place of a directory those in it and below, by path."""
    for name in names:
        if name == STDIN or not os.path.isdir(name):
            yield name
            continue
        inside = sorted(_inside(name))
        if not inside:
            raise UsageFault(f"{name}: there is no .yaml file in it; give another directory")
        yield from inside


def _inside(directory: str) -> Iterator[str]:
    seen = 0
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]  # .git
        seen += len(folders) + len(files)
        if seen > ENTRIES_MAX:
            raise UsageFault(
                f"{directory}: Is a directory with more than {ENTRIES_MAX} entries; give a"
                " narrower one"
            )
        yield from (os.path.join(folder, name) for name in files if name.endswith(_SUFFIXES))


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else name


def _read(name: str) -> bytes:
    from skerry.plumbing.yaml_document import BYTES_MAX

    try:
        if name == STDIN:
            if sys.stdin is None:
                raise OSError(errno.EBADF, "stdin is closed")
            return sys.stdin.buffer.read(BYTES_MAX + 1)
        with open(name, "rb") as file:
            return file.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageFault(f"{_shown(name)}: {reason}; give a file, a directory or -") from None
