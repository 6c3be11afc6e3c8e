"""A Docker engine for the test: the one that answers, else one of its own, which it ends again.

`dockerd` leaves chains and FORWARD=DROP behind and bridges that ask the packet filter, so both are
put back as they were.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.compose.waiting import until

START_SECONDS_MAX, STOP_SECONDS_MAX = 60.0, 60.0
PULL_SECONDS_MAX = 300.0
PROGRAMS = ("docker", "dockerd", "debootstrap", "iptables-save", "ip")
BASE = "python:3.11-slim-bookworm"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
TABLES = ("filter", "nat")
KERNEL = tuple(
    Path("/proc/sys/net") / name
    for name in (
        "ipv4/ip_forward",
        "bridge/bridge-nf-call-iptables",
        "bridge/bridge-nf-call-ip6tables",
    )
)


def succeeds(command: Sequence[str], environment: dict[str, str] | None = None) -> bool:
    """Return whether the command is there and ends well in time; what it prints is dropped."""
    try:
        return (
            subprocess.run(
                command,
                env=environment,
                capture_output=True,
                timeout=PULL_SECONDS_MAX,
                check=False,
            ).returncode
            == 0
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def compose_command() -> tuple[str, ...]:
    """Return how Compose is called here, as a plugin or by itself; empty where there is none."""
    if succeeds(["docker", "compose", "version"]):
        return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else ()


def why_not() -> str:
    """Return why nothing can be tested here; empty where it can."""
    if not compose_command():
        return "there is neither `docker compose` nor docker-compose"
    if succeeds(["docker", "info"]):
        return ""
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root may start one"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no Docker engine answers, and there is no {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which `docker` and Compose find an engine.

    One that is started here keeps its images in the folder, for the next run.
    """
    # The classic builder: the other one is a plugin of its own, which Debian does not have.
    classic = {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    ours = {**os.environ, **(classic if compose_command() == ("docker-compose",) else {})}
    if succeeds(["docker", "info"]):
        yield ours
        return
    socket = f"unix://{folder}/docker.sock"
    places = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    ours["DOCKER_HOST"] = socket
    with _as_found(), (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            ["nice", "-n", "19", "dockerd", *places, "-H", socket, "-p", f"{folder}/docker.pid"],
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: succeeds(["docker", "info"], ours), START_SECONDS_MAX)
            yield ours
        finally:
            process.terminate()
            process.wait(STOP_SECONDS_MAX)


@contextlib.contextmanager
def _as_found() -> Iterator[None]:
    """Put packet filter, kernel settings and the engine's bridge back as they were."""
    filters = subprocess.run(["iptables-save"], capture_output=True, check=True).stdout
    kernel = {path: path.read_text() for path in KERNEL if path.exists()}
    had_bridge = succeeds(["ip", "link", "show", "docker0"])
    try:
        yield
    finally:
        if not had_bridge:
            subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
        for path in filter(Path.exists, KERNEL):
            # A module that came with the engine brought its settings: they ask for nothing then.
            path.write_text(kernel.get(path, "0"))
        for table in TABLES:
            if f"*{table}".encode() not in filters:
                for flag in ("-F", "-X"):
                    subprocess.run(["iptables", "-t", table, flag], check=True)
        subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=True)
        if filters:
            subprocess.run(["iptables-restore"], input=filters, check=True)


def is_there(environment: dict[str, str], image: str) -> bool:
    """Return whether the engine has the image, or could pull it."""
    return any(
        succeeds(["docker", *words, image], environment)
        for words in (("image", "inspect"), ("pull",))
    )


def ensure_base(environment: dict[str, str], folder: Path) -> None:
    """Have the image that the Dockerfiles begin with: there, pulled, or of Debian's packages."""
    if is_there(environment, BASE):
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


def ensure_official(environment: dict[str, str], image: str) -> bool:
    """Have the image: there, pulled, or a stand-in of Debian's packages; False where none is."""
    if is_there(environment, image):
        return True
    here = Path(__file__).parent
    file = here / f"Dockerfile.{image.rpartition('/')[2].partition(':')[0]}"
    if not file.exists():
        return False
    print(f"{image} cannot be pulled: {file.name} stands in for it", flush=True)
    build = ["docker", "build", "--quiet", "--file", str(file), "--tag", image, str(here)]
    subprocess.run(build, env=environment, check=True)
    return True
