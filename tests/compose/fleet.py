"""The fleet of docker-compose.yml as a user of it sees it: its commands, gateways and pages."""

import http.client
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.unit.deploy.files import ROOT

PROJECT = "skerrytest"
PLANES = ("fra", "iad", "sin")
PORTS = (*(f"SKERRY_{plane.upper()}_PORT" for plane in PLANES),)
PROMETHEUS_PORT, GRAFANA_PORT = "SKERRY_PROMETHEUS_PORT", "SKERRY_GRAFANA_PORT"
# Building the image on two busy cores took seven minutes.
COMMAND_SECONDS_MAX = 2400.0
ASK_SECONDS_MAX = 30.0
LEADING, CONNECTED, HEALTHY = "leading", "connected", "(healthy)"
OK = http.client.OK


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One project of Compose, in the environment that names the engine and the ports."""

    environment: dict[str, str]
    command: tuple[str, ...]

    def compose(self, *words: str) -> str:
        """Return what `docker compose WORDS` printed; CalledProcessError when it fails."""
        return self.run(*self.command, "-p", PROJECT, *words)

    def run(self, *command: str) -> str:
        """Return what the command printed; CalledProcessError when it fails."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            timeout=COMMAND_SECONDS_MAX,
            check=True,
        )
        return done.stdout.decode()

    def containers(self, service: str = "") -> dict[str, str]:
        """Return the status of each container, by its name; of one service, if given."""
        labels = {"project": PROJECT} | ({"service": service} if service else {})
        filters = [f"--filter=label=com.docker.compose.{key}={labels[key]}" for key in labels]
        told = self.run("docker", "ps", "--all", *filters, "--format", "{{.Names}}\t{{.Status}}")
        pairs = (line.partition("\t") for line in told.splitlines())
        return {name: status for name, _, status in pairs}

    def container(self, service: str) -> str:
        """Return the name of the service's only container."""
        (name,) = self.containers(service)
        return name

    def is_healthy(self, service: str = "") -> bool:
        """Return whether every container there is says that it is healthy."""
        states = self.containers(service).values()
        return bool(states) and all(HEALTHY in state for state in states)

    def skerry(self, *words: str) -> str:
        """Return what `skerry WORDS` printed in the service `cli`."""
        return self.compose("run", "--rm", "-T", "cli", *words)

    def rows(self, noun: str) -> list[dict[str, Any]]:
        """Return what `skerry get NOUN -o json` tells; empty while nobody leads."""
        try:
            rows: list[dict[str, Any]] = json.loads(self.skerry("get", noun, "-o", "json"))
        except subprocess.CalledProcessError:
            return []
        return rows

    def roles(self) -> dict[str, str]:
        """Return the role of each control plane, as the leader tells them."""
        return {one["name"]: one["role"] for one in self.rows("control-planes")}

    def leader(self) -> str:
        """Return the control plane that leads; empty when nobody does."""
        return next((name for name, role in self.roles().items() if role == LEADING), "")

    def shows(self, plane: str, wanted: bool) -> Callable[[], bool]:
        """Return a look at whether the leader has the plane as connected, or as not."""

        def look() -> bool:
            states = {one["name"]: one["state"] for one in self.rows("planes")}
            return plane in states and (states[plane] == CONNECTED) is wanted

        return look

    def chat(self, plane: str, key: str) -> str:
        """Return what is wrong with a chat at the plane's gateway; empty for an answer."""
        message = {"role": "user", "content": "What is a plane?"}
        body = {"model": "skerry-tiny", "messages": [message], "max_tokens": 8}
        port = int(self.environment[PORTS[PLANES.index(plane)]])
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS_MAX)
        try:
            line.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = line.getresponse()
            text = answer.read()
            if answer.status != OK:
                return f"{answer.status} {text[:200]!r}"
            said = json.loads(text)["choices"][0]["message"]["content"]
            return "" if said.strip() else "an empty answer"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return repr(error)
        finally:
            line.close()

    def page(self, port: str, path: str, headers: dict[str, str] | None = None) -> Any:
        """Return the JSON of a page at the port that the setting names; OSError, ValueError."""
        number = int(self.environment[port])
        line = http.client.HTTPConnection("127.0.0.1", number, timeout=ASK_SECONDS_MAX)
        try:
            line.request("GET", path, headers=headers or {})
            return json.loads(line.getresponse().read())
        finally:
            line.close()
