"""Certificates of a fleet that `skerry up` does not make: `certificates.py plane NAME --out DIR`.

Run where the authority's key is kept, once for each party and then daily: what is past half its
30 days, or names something else than asked, is issued anew, and everything else stays as it is.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry.fleet.names import DEFAULT_PROJECT, check_name
from skerry.fleet.party_uris import (
    CONTROL_PLANE,
    DEFAULT_TRUST_DOMAIN,
    PLANE,
    Naming,
    UriForm,
)
from skerry.plumbing.certificates import (
    Subject,
    ensure_authority,
    ensure_certificate,
    renewal_time,
)
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.sealing import check_references, read_keyring
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

EXIT_DONE, EXIT_USAGE = 0, 2
AUTHORITY_NAME = "skerry authority"
_OURS = Naming(project=DEFAULT_PROJECT)


def main(argv: Sequence[str] | None = None) -> int:
    """Make sure of one party's certificate; return 0 done, 2 for what cannot be."""
    options = _parser().parse_args(argv)
    now = SystemClock().now()
    try:
        subject = subject_of(
            options.party,
            check_name(options.name, options.party),
            naming=Naming(
                project=check_name(options.project, "project"),
                form=UriForm(options.uri),
                trust_domain=options.trust_domain,
            ),
            dns_names=tuple(options.dns),
            addresses=tuple(options.address),
        )
        keyring = read_keyring(check_references(tuple(options.sealing_key)), os.environ)
        ensure_authority(options.authority, AUTHORITY_NAME, now, keyring)
        files = ensure_certificate(options.authority, options.out, subject, now, keyring=keyring)
    except (SkerryError, ValueError, OSError) as error:
        print(f"certificates.py: {error}", file=sys.stderr)
        return EXIT_USAGE
    renewal = renewal_time(files.cert).isoformat(timespec="minutes")
    print(f"ca:          {files.ca}")
    print(f"certificate: {files.cert}")
    print(f"key:         {files.key}")
    print(f"to be renewed from {renewal} on, by the same command")
    return EXIT_DONE


def subject_of(
    party: str,
    name: str,
    *,
    naming: Naming = _OURS,
    dns_names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
) -> Subject:
    """Return what the certificate names: who it is (URI), and what it may be reached under.

    A plane's name stands as a DNS name too, which its peers' gateways check. Only a control
    plane's carries the name that planes' links ask for.
    """
    own = (CONTROL_PLANE_SERVER_NAME,) if party == CONTROL_PLANE else ()
    return Subject(
        name=name,
        uris=(naming.uri(party, name),),
        dns_names=tuple(dict.fromkeys((name, *own, *dns_names))),
        addresses=addresses,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certificates.py", description="issue or renew one party's certificate"
    )
    parser.add_argument("party", choices=(PLANE, CONTROL_PLANE))
    parser.add_argument("name", help="the plane's name in the fleet, or the control plane's")
    parser.add_argument("--out", type=Path, required=True, help="where ca, certificate and key go")
    parser.add_argument(
        "--authority",
        type=Path,
        required=True,
        help="the authority's folder, made when it is empty; its ca.key leaves this machine never",
    )
    parser.add_argument("--project", default=DEFAULT_PROJECT)
    parser.add_argument(
        "--uri",
        choices=[form.value for form in UriForm],
        default=UriForm.SKERRY.value,
        help="how it says who the party is; spiffe once every plane's release knows it",
    )
    parser.add_argument(
        "--sealing-key",
        action="append",
        default=[],
        help="where a key is that seals the authority's: env:, file: or command:; newest first",
    )
    parser.add_argument("--trust-domain", default=DEFAULT_TRUST_DOMAIN, help="of --uri spiffe")
    parser.add_argument("--dns", action="append", default=[], help="a further DNS name; repeatable")
    parser.add_argument("--address", action="append", default=[], help="an IP address; repeatable")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
