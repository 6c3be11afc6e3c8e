"""The fleet's authority and certificates in DIR/pki, and when the supervisor looks at them again.

`skerry up` makes them before anything starts; the supervisor renews them while the fleet runs.
Servers, gateways and the link follow the files, so nothing is started again for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME, HOST, DataDirectory, Layout
from skerry.cli.supervisor.written_settings import section_of
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.party_uris import CONTROL_PLANE, DEFAULT_TRUST_DOMAIN, PLANE, Naming, UriForm
from skerry.plumbing.certificates import (
    CA_NAME,
    Subject,
    ensure_authority,
    ensure_certificate,
)
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.rpc import TlsFiles
from skerry.plumbing.sealing import PLAIN, Keyring
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

# A certificate is renewed at half of its 30 days; a look a day leaves a fortnight of retries.
RENEWAL_PERIOD = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPki:
    """Where the certificates of a fleet are; planes, and the first's standbys, by name.

    `naming` is how they name whom they are for.
    """

    naming: Naming
    control_plane: TlsFiles
    standbys: Mapping[str, TlsFiles]
    planes: Mapping[str, TlsFiles]


def is_renewal_due(looked_at: datetime | None, now: datetime) -> bool:
    """Say whether the certificates are to be looked at: never yet, a day ago, or time was set back.

    Wall time, as certificates are: a host that slept for a month looks at once.
    """
    return looked_at is None or now < looked_at or now - looked_at >= RENEWAL_PERIOD


def ensure_pki(
    directory: DataDirectory, layout: Layout, now: datetime, keyring: Keyring = PLAIN
) -> FleetPki:
    """Make what is missing, renew what is past half its life, and return where all is.

    Only control planes' certificates carry the name that the planes' link asks for: any
    other party of the fleet can serve TLS, but not pose as the control plane. The keyring seals
    and opens the authority's key.
    """
    naming = _naming(directory)
    ensure_authority(directory.pki / "authority", "skerry authority", now, keyring)
    issuing = _Issuing(directory=directory, naming=naming, now=now, keyring=keyring)
    return FleetPki(
        naming=naming,
        control_plane=issuing.of_control_plane(CONTROL_PLANE_NAME),
        standbys={
            one.name: issuing.of_control_plane(one.name) for one in layout.control_planes[1:]
        },
        planes={plane.name: issuing.ensure(PLANE, plane.name) for plane in layout.planes},
    )


def authority_file(directory: DataDirectory) -> Path:
    """Return the file of the roots that clients of the operator API trust."""
    return directory.pki / "authority" / CA_NAME


def _naming(directory: DataDirectory) -> Naming:
    """Return how the fleet's certificates name parties: as its settings say.

    A fleet that is only being made has no part of an earlier release: it begins with SPIFFE's.
    """
    path = directory.control_plane / "settings.json"
    is_new = not path.exists()
    joining = section_of(path, "joining")
    form = joining.get("certificate_uri", "") if isinstance(joining, dict) else ""
    domain = section_of(path, "trust_domain")
    try:
        return Naming(
            project=DEFAULT_PROJECT,
            form=UriForm(form or (UriForm.SPIFFE if is_new else UriForm.SKERRY)),
            trust_domain=domain or DEFAULT_TRUST_DOMAIN,
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"settings {path} are wrong: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issuing:
    """Where a fleet's certificates are made, how they name parties, when, and by which key."""

    directory: DataDirectory
    naming: Naming
    now: datetime
    keyring: Keyring

    def of_control_plane(self, name: str) -> TlsFiles:
        return self.ensure(CONTROL_PLANE, name, (CONTROL_PLANE_SERVER_NAME,))

    def ensure(self, party: str, name: str, server_names: tuple[str, ...] = ()) -> TlsFiles:
        pki = self.directory.pki
        subject = Subject(
            name=name,
            uris=(self.naming.uri(party, name),),
            dns_names=("localhost", name, *server_names),
            addresses=(HOST,),
        )
        folder = pki / "planes" / name if party == PLANE else pki / name
        return ensure_certificate(
            pki / "authority", folder, subject, self.now, keyring=self.keyring
        )
