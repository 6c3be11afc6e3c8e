"""A Docker engine for the test: the one that answers, else one of its own, which it ends again.

`dockerd` leaves chains and FORWARD=DROP behind, so the packet filter is put back as it was.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.compose.waiting import until

START_SECONDS_MAX, STOP_SECONDS_MAX = 60.0, 60.0
PROGRAMS = ("docker", "dockerd", "docker-compose", "debootstrap", "iptables-save")
BASE = "python:3.11-slim-bookworm"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def answers() -> bool:
    """Return whether a Docker engine answers where the environment says."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def why_not() -> str:
    """Return why nothing can be tested here; empty where it can."""
    if shutil.which("docker-compose") is None:
        return "there is no docker-compose"
    if answers():
        return ""
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root may start one"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no Docker engine answers, and there is no {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which `docker` and `docker-compose` find an engine."""
    # The classic builder: the other one is a plugin of its own, which Debian does not have.
    ours = {**os.environ, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    if answers():
        yield ours
        return
    filters = subprocess.run(["iptables-save"], capture_output=True, check=True).stdout
    socket = f"unix://{folder}/docker.sock"
    places = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            ["nice", "-n", "19", "dockerd", *places, "-H", socket, "-p", f"{folder}/docker.pid"],
            stdout=log,
            stderr=log,
        )
    ours["DOCKER_HOST"] = socket
    try:
        until(lambda: _is_up(ours), START_SECONDS_MAX)
        yield ours
    finally:
        process.terminate()
        process.wait(STOP_SECONDS_MAX)
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
        _put_back(filters)


def _is_up(environment: dict[str, str]) -> bool:
    asked = subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False)
    return asked.returncode == 0


def _put_back(filters: bytes) -> None:
    """Restore each table; one that nobody had used is emptied, and accepts again."""
    for table in ("nat", "filter"):
        if f"*{table}".encode() not in filters:
            for flag in ("-F", "-X"):
                subprocess.run(["iptables", "-t", table, flag], check=True)
    subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=True)
    if filters:
        subprocess.run(["iptables-restore"], input=filters, check=True)


def ensure_base(environment: dict[str, str], folder: Path) -> None:
    """Have the image that the Dockerfiles begin with: there, pulled, or made of Debian's packages."""
    for command in (["docker", "image", "inspect", BASE], ["docker", "pull", BASE]):
        if (
            subprocess.run(command, env=environment, capture_output=True, check=False).returncode
            == 0
        ):
            return
    root = folder / "base"
    include = f"--include={BASE_PACKAGES}"
    subprocess.run(["debootstrap", "--variant=minbase", include, "bookworm", root], check=True)
    # This machine's authorities, for an index behind a proxy of its own.
    shutil.copyfile(CA_BUNDLE, root / CA_BUNDLE.relative_to("/"))
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
        change = f"ENV PIP_CERT={CA_BUNDLE}"
        subprocess.run(
            ["docker", "import", "--change", change, "-", BASE],
            env=environment,
            stdin=packed.stdout,
            check=True,
        )
    shutil.rmtree(root)
