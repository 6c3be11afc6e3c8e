"""The token that a hub is asked with: from a reference, from a file, or HF_TOKEN.

What a reference names is read off the loop when it is first wanted, and again once the hub has
refused it: a program may take seconds, and a plane starts and serves without its store of secrets.
"""

import asyncio
from collections.abc import MutableMapping

from skerry.plumbing.errors import Denied, Infeasible
from skerry.plumbing.secret_references import EnvironmentSecret, SecretSource, source_of
from workload_plane.models.limits import CacheSettings

TOKEN_VARIABLE = "HF_TOKEN"


class HubToken:
    """The token of one plane for its hub."""

    def __init__(self, settings: CacheSettings, environment: MutableMapping[str, str]) -> None:
        """Read nothing yet; a variable that a reference names is taken out of the environment."""
        self._file = settings.hub_token_file
        self._environment = environment
        self._source = _taken(settings.hub_token, environment) if settings.hub_token else None
        self._known: str | None = None
        self._lock = asyncio.Lock()

    async def read(self) -> str:
        """Return the token, "" for none; Denied says why one that is told is not to be had."""
        if self._source is None:
            return self._of_file()
        async with self._lock:  # of several downloads one starts the program
            if self._known is None:
                try:
                    self._known = await asyncio.to_thread(self._source.read)
                except Infeasible as fault:
                    raise Denied(f"model_cache.hub_token: {fault.message}") from None
            return self._known

    def forget(self) -> None:
        """Have it read anew when it is next wanted: the hub does not take this one."""
        self._known = None

    def _of_file(self) -> str:
        if self._file is None:
            return self._environment.get(TOKEN_VARIABLE, "").strip()
        try:
            return self._file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Denied(
                f"model_cache.hub_token_file {self._file} can't be read: {error}"
            ) from None


def _taken(reference: str, environment: MutableMapping[str, str]) -> SecretSource:
    source = source_of(reference, environment)
    if not isinstance(source, EnvironmentSecret):
        return source
    # Whatever the agent starts is given its environment, but for names that we know.
    told = environment.pop(source.name, None)
    held = {} if told is None else {source.name: told}
    return EnvironmentSecret(name=source.name, environment=held)
