"""Cordons: domains where nothing new is placed. What runs there goes on."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.deployment import FailureDomain
from skerry.fleet.names import InvalidName, check_name
from skerry.fleet.pool import PlaneIdentity

REGION_SEPARATOR = "/"  # CLOUD/REGION: the same region's name may be used by two clouds


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """A domain that takes nothing new: who said so, why and since when."""

    domain: FailureDomain
    name: str
    actor: str
    reason: str
    since: datetime


def check_domain_name(domain: FailureDomain, name: str) -> str:
    """Return PLANE, CLOUD/REGION or CLOUD as it is; InvalidName where it is not of its domain."""
    parts = name.split(REGION_SEPARATOR)
    wanted = 2 if domain is FailureDomain.REGION else 1
    if len(parts) != wanted:
        raise InvalidName(
            f"{domain.value} {name[:120]!r} must look like"
            f" {'CLOUD/REGION' if wanted == 2 else domain.value.upper()}"
        )
    for part in parts:
        check_name(part, domain.value)
    return name


def domains_of(plane: PlaneIdentity) -> tuple[tuple[FailureDomain, str], ...]:
    """Return the domains that a plane lies in, itself first."""
    return (
        (FailureDomain.PLANE, plane.name),
        (FailureDomain.REGION, f"{plane.cloud}{REGION_SEPARATOR}{plane.region}"),
        (FailureDomain.CLOUD, plane.cloud),
    )


def is_cordoned(plane: PlaneIdentity, cordons: Collection[tuple[FailureDomain, str]]) -> bool:
    """Say whether a plane lies in one of the cordoned domains."""
    return any(domain in cordons for domain in domains_of(plane))
