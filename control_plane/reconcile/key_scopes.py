"""What gateways are told of API keys where several projects share a fleet. Pure; `sight` calls it.

A key opens deployments of its own project and no other's, whatever it names. Planes resolve a key
for every deployment themselves, by the projects of the deployments that they are told beside it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from skerry.fleet.api_key import DEPLOYMENTS_MAX, ApiKey
from skerry.fleet.names import DEFAULT_PROJECT

# Of all keys together, for planes of earlier releases: each desired state holds them, of 4 MiB.
# Those that list their deployments come first (`store.api_keys` bounds them).
TOLD_NAMES_MAX = 20_000
# What a key that opens nothing yet is for: a list may not be empty.
_NOBODYS = "no-deployment"


def is_shared(keys: Sequence[ApiKey], owners: Mapping[str, str]) -> bool:
    """Say whether any project but the fleet's own has a key or a deployment."""
    return any(key.project != DEFAULT_PROJECT for key in keys) or any(
        owner != DEFAULT_PROJECT for owner in owners.values()
    )


def scoped(
    keys: Sequence[ApiKey], owners: Mapping[str, str], gone: Mapping[str, str]
) -> tuple[ApiKey, ...]:
    """Return the keys with what each may open of its project.

    `owners` is whose each deployment is, `gone` whose those were that planes may still end. A name
    of neither opens nothing: it may be another project's tomorrow.
    """
    own: defaultdict[str, list[str]] = defaultdict(list)
    for name, project in sorted(owners.items()):
        own[project].append(name)
    known = {**gone, **owners}
    nothing = _unused(known)
    listed = (len(key.terms.deployments) for key in keys if not key.terms.is_for_all)
    left = TOLD_NAMES_MAX - sum(listed)
    found = []
    for key in keys:
        every = key.terms.is_for_all
        if every:
            names = tuple(own[key.project][: max(0, min(left, DEPLOYMENTS_MAX))])
            left -= len(names)
        else:
            names = tuple(name for name in key.terms.deployments if known.get(name) == key.project)
        terms = replace(key.terms, deployments=names or (nothing,))
        found.append(replace(key, terms=terms, every_of_project=every))
    return tuple(found)


def _unused(known: Collection[str]) -> str:
    """Return a name that no deployment has."""
    name, number = _NOBODYS, 1
    while name in known:
        number += 1
        name = f"{_NOBODYS}-{number}"
    return name
