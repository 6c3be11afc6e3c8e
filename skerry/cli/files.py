"""Deployment files named on the command line: `-f FILE`, `-f -`, several; all read or none used."""

import errno
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skerry.cli.session import UsageFault, usage

if TYPE_CHECKING:
    from skerry.fleet.deployment import Deployment

STDIN = "-"


def read_deployments(names: Sequence[str]) -> "tuple[tuple[str, Deployment], ...]":
    """Return (file, deployment) for every document of every file; UsageFault names the first bad.

    A deployment may stand in one of the files only, and so may the name that it is served by.
    """
    from skerry.client.manifest import read_manifests

    found: dict[str, tuple[str, Deployment]] = {}
    served: dict[str, tuple[str, str]] = {}
    faults: list[str] = []
    for name in names:
        try:
            with usage():
                deployments = read_manifests(_read(name), _shown(name))
        except UsageFault as fault:
            faults.append(fault.message)
            continue
        for deployment in deployments:
            if deployment.name in found:
                first = found[deployment.name][0]
                faults.append(f"{_shown(name)}: deployment {deployment.name!r} is in {first} too")
                continue
            served_name = deployment.revision.base_model.served_name
            first, other = served.setdefault(served_name, (_shown(name), deployment.name))
            if other != deployment.name:
                faults.append(
                    f"{_shown(name)}: deployment {deployment.name!r}: {served_name!r} is served by"
                    f" deployment {other!r} of {first} already"
                )
            found[deployment.name] = (_shown(name), deployment)
    if faults:
        raise UsageFault("\n".join(faults))
    return tuple(found.values())


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
        raise UsageFault(f"{_shown(name)}: {reason}; give a deployment file or -") from None
