"""How many files and sockets the supervised processes may open: the soft limit raised to the hard.

Shells give 1,024, which a gateway, a picker or a relay is out of long before its own limits; the
supervisor raises its own and its children inherit it. Under systemd the units say it.
"""

import resource

from workload_plane.gateway.resources import CONNECTIONS_MAX

# More is never needed, and programs that close every number one by one take minutes for 2^30.
OPEN_FILES_MAX = 1_048_576
# For what is not a connection of a client: logs, files, watches, the admin's, health checks.
_OTHERS = 2_000
# A client's connection in the gateway has one on to a replica, a peer or the relay beside it; the
# relay holds two for each stream and the picker one, so what the gateway needs is the most.
OPEN_FILES_NEEDED = 2 * CONNECTIONS_MAX + _OTHERS


def raise_open_files() -> int:
    """Raise this process's soft limit as far as it may, and return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else OPEN_FILES_MAX
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def hard_limit() -> int:
    """Return as many as this process and its children may be given."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else hard


def shortage(allowed: int) -> str:
    """Return what is wrong with a limit that is too low for a full gateway, "" when it is not."""
    if allowed >= OPEN_FILES_NEEDED:
        return ""
    return (
        f"processes may open {allowed:,} files here; a gateway with its {CONNECTIONS_MAX:,}"
        f" connections needs {OPEN_FILES_NEEDED:,}: raise the hard limit (ulimit -Hn, or nofile"
        " in /etc/security/limits.conf)"
    )
