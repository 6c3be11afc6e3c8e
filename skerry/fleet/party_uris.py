"""The URIs that certificates name parties by: ours, and SPIFFE's, of which a certificate has one.

Control planes issue them and look at them, planes' gateways refuse revoked ones. Both forms are
read; which one is issued is said where it is issued (decision 0030).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from skerry.fleet.names import full_name

PLANE, CONTROL_PLANE = "plane", "control-plane"
DEFAULT_TRUST_DOMAIN = "skerry"
# Of SPIFFE-ID: the host of a URI has at most 255 characters, of these.
TRUST_DOMAIN_CHARACTERS_MAX = 255
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SPIFFE = "spiffe:"  # schemes are compared without regard to case


class UriForm(StrEnum):
    """Which URI a certificate that is issued has."""

    SKERRY = "skerry"
    SPIFFE = "spiffe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How the parties of a fleet are named in its certificates.

    `trust_domain` is that of SPIFFE; ValueError for what is none.
    """

    project: str
    form: UriForm = UriForm.SKERRY
    trust_domain: str = DEFAULT_TRUST_DOMAIN

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)

    def uri(self, party: str, name: str) -> str:
        """Return the one URI of a certificate for a party."""
        if self.form is UriForm.SPIFFE:
            return spiffe_uri(self.trust_domain, self.project, party, name)
        return skerry_uri(self.project, party, name)


def check_trust_domain(text: str) -> str:
    """Return a trust domain's name; ValueError with the rule for what is none."""
    if len(text) > TRUST_DOMAIN_CHARACTERS_MAX or not _TRUST_DOMAIN.fullmatch(text):
        raise ValueError(
            f"a trust domain has 1-{TRUST_DOMAIN_CHARACTERS_MAX} characters of a-z, 0-9, '.', '-'"
            f" and '_', which {text[:80]!r} has not"
        )
    return text


def skerry_uri(project: str, party: str, name: str) -> str:
    """Return the URI that every release knows a party by."""
    return f"skerry://{full_name(project, f'{party}s', name)}"


def plane_uri(project: str, plane: str) -> str:
    """Return the URI that every release knows a plane by."""
    return skerry_uri(project, PLANE, plane)


def spiffe_uri(trust_domain: str, project: str, party: str, name: str) -> str:
    """Return a party's SPIFFE ID."""
    return f"spiffe://{trust_domain}{spiffe_path(project, party, name)}"


def spiffe_path(project: str, party: str, name: str) -> str:
    """Return the path of a party's SPIFFE ID, the same in every trust domain."""
    return f"/project/{project}/{party}/{name}"


def names_plane(uris: Sequence[str], trust_domain: str, project: str, plane: str) -> bool:
    """Say whether a certificate with these URIs is that of a plane.

    A SPIFFE ID counts only where it is the certificate's one URI: its rules have others refused.
    """
    if plane_uri(project, plane) in uris:
        return True
    return list(uris) == [spiffe_uri(trust_domain, project, PLANE, plane)]


def why_not_plane(uris: Sequence[str], trust_domain: str, project: str, plane: str) -> str:
    """Say what a certificate carries instead of what would make it that of a plane."""
    shown = ", ".join(uris) or "no name at all"
    wanted = spiffe_uri(trust_domain, project, PLANE, plane)
    told = f"carries {shown}, not {plane_uri(project, plane)}, nor {wanted}"
    if wanted in uris:
        return f"{told} alone, as SPIFFE has it"
    if any(uri.lower().startswith(_SPIFFE) for uri in uris):
        return f"{told} (trust_domain in the control plane's settings is {trust_domain!r})"
    return told
