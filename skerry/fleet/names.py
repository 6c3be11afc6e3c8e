"""Names of things: short ids inside a project, and the full resource names the API shows.

Every value of the fleet carries the short id; only the API and what it prints use `full_name`.
"""

import re
from functools import lru_cache

DEFAULT_PROJECT = "default"
# DNS labels: an id is also a host name, a file name and a metric label.
NAME_CHARACTERS_MAX = 63
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
POOL_NAMES_MAX = 65_536  # remembered: a fleet asks for each of its few thousand again and again
SEPARATOR = "--"  # joins plane and pool, so it may stand in neither


class InvalidName(ValueError):
    """A name that is not a DNS label."""


def check_name(name: str, what: str) -> str:
    """Return `name` when it is a DNS label; raise InvalidName with the rule otherwise."""
    if len(name) > NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        raise InvalidName(
            f"{what} {name[:80]!r} must be 1-{NAME_CHARACTERS_MAX} characters of a-z, 0-9 and '-',"
            " start with a letter and not end with '-'"
        )
    return name


def full_name(project: str, collection: str, name: str) -> str:
    """Return e.g. `projects/default/planes/onprem-fra`."""
    return f"projects/{project}/{collection}/{name}"


def check_part(name: str, what: str) -> str:
    """Return `name` when it may be joined with another to one id; raise InvalidName otherwise."""
    if SEPARATOR in check_name(name, what):
        raise InvalidName(
            f"{what} {name!r} must not contain {SEPARATOR!r}: it joins plane and pool"
        )
    return name


def parse_full_name(text: str, collection: str) -> tuple[str, str]:
    """Return (project, short id) of a full resource name of the given collection."""
    parts = text.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != collection:
        raise InvalidName(f"{text[:120]!r} must look like projects/PROJECT/{collection}/NAME")
    return check_name(parts[1], "project"), check_name(parts[3], "name")


@lru_cache(maxsize=POOL_NAMES_MAX)
def pool_name(plane: str, pool: str) -> str:
    """Return the fleet-wide id of a plane's pool, e.g. `onprem-fra--cpu`."""
    return check_name(f"{plane}{SEPARATOR}{pool}", "pool")
