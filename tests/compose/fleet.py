"""The fleet of docker-compose.yml as a user of it sees it: its commands, its gateways."""

import http.client
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.unit.deploy.files import ROOT

PROJECT = "skerrytest"
GATEWAYS = {"fra": 8080, "iad": 8081, "sin": 8082}
COMMAND_SECONDS_MAX = 900.0
ASK_SECONDS_MAX = 20.0


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One project of docker-compose, in the environment that names the engine."""

    environment: dict[str, str]

    def compose(self, *words: str) -> str:
        """Return what `docker-compose WORDS` printed; CalledProcessError when it fails."""
        return self.run("docker-compose", "-p", PROJECT, *words)

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

    def skerry(self, *words: str) -> str:
        """Return what `skerry WORDS` printed in the service `cli`."""
        return self.compose("run", "--rm", "-T", "cli", *words)

    def rows(self, noun: str) -> list[dict[str, Any]]:
        """Return what `skerry get NOUN -o json` tells; empty while nobody leads."""
        try:
            told = json.loads(self.skerry("get", noun, "-o", "json"))
        except subprocess.CalledProcessError:
            return []
        rows: list[dict[str, Any]] = told if isinstance(told, list) else next(iter(told.values()))
        return rows

    def leader(self) -> str:
        """Return the control plane that leads; empty when nobody does."""
        leading = [one["name"] for one in self.rows("control-planes") if one["role"] == "LEADING"]
        return leading[0] if leading else ""

    def is_connected(self, plane: str, wanted: bool) -> Callable[[], bool]:
        """Return a look at whether the leader shows the plane so."""

        def look() -> bool:
            shown = {one["name"]: one for one in self.rows("planes")}
            return plane in shown and (shown[plane]["connected"] is wanted)

        return look

    def ask(self, plane: str, key: str) -> int:
        """Return the status of a completion at the plane's gateway; 0 without an answer."""
        body = json.dumps({"model": "skerry-tiny", "prompt": "The sea", "max_tokens": 4})
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        line = http.client.HTTPConnection("127.0.0.1", GATEWAYS[plane], timeout=ASK_SECONDS_MAX)
        try:
            line.request("POST", "/v1/completions", body, headers)
            answer = line.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            line.close()
        has_text = answer.status == http.client.OK and json.loads(text)["choices"][0]["text"]
        return answer.status if has_text or answer.status != http.client.OK else 0
