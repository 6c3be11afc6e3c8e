"""What proves each plane that joined by invitation or was revoked: in memory, for the link.

Loaded when a control plane begins to lead; whoever writes an identity puts it here too. A plane of
which nothing is known here is let in by its certificate alone.
"""

from bisect import bisect
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from control_plane.instruments import REVOKED_CERTIFICATES, REVOKED_PLANES
from skerry.fleet.joining import PlaneIdentity, refusal_of
from skerry.plumbing.certificate_requests import key_digest_of
from skerry.plumbing.clock import Clock

# Planes are told of so many, in every desired state: 64 kB. The link itself knows all. An alert
# fires well before (`skerry_revoked_certificates`).
REVOKED_TOLD_MAX = 1_000
# Of a plane whose certificate was made elsewhere no end is known: none of ours lasts longer.
UNKNOWN_END = timedelta(days=366)


class Identities:
    """Says of a certificate whether its plane is let in with it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Know of nobody; `wake` is called whenever others have to be told of who was revoked."""
        self._wake = wake
        self._held: dict[str, PlaneIdentity] = {}
        self._changed: Callable[[str], None] = lambda plane: None
        self._ends: tuple[datetime, ...] = ()
        self.revoked: tuple[str, ...] = ()

    def show(self, clock: Clock) -> None:
        """Show from now on how many certificates of revoked planes have not ended yet."""
        REVOKED_CERTIFICATES.set_function(
            lambda: float(len(self._ends) - bisect(self._ends, clock.now()))
        )

    def load(self, identities: Iterable[PlaneIdentity]) -> None:
        """Know these and no others."""
        self._held = {one.plane: one for one in identities}
        self._count_revoked()

    def follow(self, changed: Callable[[str], None]) -> None:
        """Tell of every plane whose identity changes from now on; whoever followed is told none."""
        self._changed = changed

    def put(self, identity: PlaneIdentity) -> None:
        """Know this of a plane from now on."""
        self._held[identity.plane] = identity
        self._count_revoked()
        self._changed(identity.plane)

    def _count_revoked(self) -> None:
        found = [
            (one.expires_at or one.revoked_at + UNKNOWN_END, one.plane)
            for one in self._held.values()
            if one.revoked_at is not None
        ]
        REVOKED_PLANES.set(len(found))
        self._ends = tuple(sorted(end for end, _ in found))
        # Of too many those whose certificates end last: the others' open gateways for less long.
        latest = sorted(found, reverse=True)[:REVOKED_TOLD_MAX]
        revoked = tuple(sorted(plane for _, plane in latest))
        if revoked != self.revoked:
            self.revoked = revoked
            self._wake()

    def refusal(self, plane: str, certificate: bytes) -> str:
        """Say why a plane is not let in with a certificate (PEM), empty where it is."""
        identity = self._held.get(plane)
        if identity is None:
            return ""  # and its certificate is not parsed: most planes of most fleets
        try:
            digest = key_digest_of(certificate)
        except ValueError:
            digest = b""  # of nobody's key
        return refusal_of(identity, digest)
