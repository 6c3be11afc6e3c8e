"""The authority of the fleet that docker-compose.yml starts: `compose_authority.py run`.

Makes each party's secrets in a volume of that party's own, and renews its certificate, once a day.
No other container has the authority's key, and this one has no network. `check` is its health
check: it says which secret is missing or has ended.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from deploy.certificates import AUTHORITY_NAME, subject_of
from skerry.client.context import Context, render_context
from skerry.fleet.party_uris import CONTROL_PLANE, PLANE
from skerry.fleet.service_token import BOOTSTRAP_TOKEN, SECRET_BYTES, token_text
from skerry.plumbing.certificates import (
    CA_NAME,
    ensure_authority,
    ensure_certificate,
    expiry_time,
    roots_pem,
)
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.files import write_atomically
from skerry.plumbing.ids import IdSource, SystemIds
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

EXIT_DONE, EXIT_FAILED = 0, 1
HOME = Path("/etc/skerry")
# A certificate is renewed at half of its 30 days, so a day without this container harms nothing.
LOOK_SECONDS = 86_400.0
FILE_MODE = 0o600
CONTROL_PLANES = ("control-a", "control-b")
PLANES = ("fra", "iad", "sin")
OPERATOR, DATABASE, GRAFANA = "operator", "database", "grafana"
PARTIES = (*CONTROL_PLANES, *PLANES, OPERATOR, DATABASE, GRAFANA)
OPERATOR_PORT = 7100
TOKEN, PASSWORD, PGPASS, CONFIG = "operator.token", "password", "pgpass", "config.yaml"
# Where each party finds its own volume.
SECRETS = Path("/etc/skerry/secrets")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 done, 1 when `check` misses something."""
    parser = argparse.ArgumentParser(prog="compose_authority.py", description="secrets of a fleet")
    parser.add_argument("command", choices=("run", "check"))
    parser.add_argument("--home", type=Path, default=HOME, help="where the volumes are mounted")
    options = parser.parse_args(argv)
    if options.command == "check":
        missing = list(faults(options.home, SystemClock().now()))
        print(*missing or ["every secret is there"], sep="\n")
        return EXIT_FAILED if missing else EXIT_DONE
    asyncio.run(_keep(options.home))
    return EXIT_DONE


async def _keep(home: Path) -> None:
    clock = SystemClock()
    while True:
        ensure_secrets(home, clock.now(), SystemIds(clock))
        print("every secret is there, and no certificate past half of its life", flush=True)
        await clock.sleep(LOOK_SECONDS)


def ensure_secrets(home: Path, now: datetime, ids: IdSource) -> None:
    """Write what is missing or due below the folder; what is good stays as it is.

    A secret that several parties share is taken from the first that has it.
    """
    authority = home / "authority"
    ensure_authority(authority, AUTHORITY_NAME, now)
    for name in CONTROL_PLANES:
        ensure_certificate(authority, home / name, subject_of(CONTROL_PLANE, name), now)
    for name in PLANES:
        ensure_certificate(authority, home / name, subject_of(PLANE, name), now)
    token = _kept(home / OPERATOR / TOKEN) or _line(token_text(BOOTSTRAP_TOKEN, _secret(ids)))
    password = _kept(home / DATABASE / PASSWORD) or _line(_secret(ids))
    login = b"postgres:5432:skerry:skerry:" + password
    _write(home / OPERATOR / TOKEN, token)
    _write(home / DATABASE / PASSWORD, password)
    for name in CONTROL_PLANES:
        _write(home / name / TOKEN, token)
        _write(home / name / PGPASS, login)
    _write(home / GRAFANA / PASSWORD, _kept(home / GRAFANA / PASSWORD) or _line(_secret(ids)))
    _write(home / OPERATOR / CA_NAME, roots_pem(authority))
    _write(home / OPERATOR / CONFIG, _context().encode())


def faults(home: Path, now: datetime) -> Iterator[str]:
    """Yield what keeps a party from starting: a missing secret, a certificate at its end."""
    for name in (*CONTROL_PLANES, *PLANES):
        try:
            if expiry_time(home / name / f"{name}.pem") <= now:
                yield f"the certificate of {name} has ended"
        except (OSError, ValueError) as error:
            yield f"the certificate of {name} cannot be read: {error}"
    # Written last.
    for path in (home / GRAFANA / PASSWORD, home / OPERATOR / CONFIG):
        if _kept(path) is None:
            yield f"{path} is missing"


def _context() -> str:
    return render_context(
        Context(
            endpoints=tuple(f"{name}:{OPERATOR_PORT}" for name in CONTROL_PLANES),
            token_file=SECRETS / TOKEN,
            ca_file=SECRETS / CA_NAME,
            server_name=CONTROL_PLANE_SERVER_NAME,
        )
    )


def _secret(ids: IdSource) -> str:
    return ids.token(SECRET_BYTES)


def _line(text: str) -> bytes:
    return text.encode() + b"\n"


def _kept(path: Path) -> bytes | None:
    try:
        return path.read_bytes() or None
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    if _kept(path) != data:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, data, mode=FILE_MODE)


if __name__ == "__main__":
    raise SystemExit(main())
