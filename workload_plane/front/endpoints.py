"""What the front knows: the models of the plane and the replicas that serve them now.

Read from endpoints.json, which the agent writes atomically; the last readable content stays in
force, so the front answers with the agent and the control plane dead.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.watched_file import Unread, WatchedFile

# What the agent writes (`workload_plane.gateway.routing`); named again, for importing that takes as
# long as all else that the front imports.
ENDPOINTS_FORMAT = 1
LOOK_SECONDS = 0.5
ENDPOINTS_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One local READY replica, by name and the address of its gRPC server."""

    name: str
    grpc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One deployment as clients name it; no replicas means that peers serve it."""

    served_name: str
    deployment: str
    base_model: str
    context_tokens: int
    replicas: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """All that the plane serves."""

    plane: str
    models: tuple[Model, ...] = ()

    def model(self, served_name: str) -> Model | None:
        """Return the model of that name, None when the plane does not serve it."""
        return next((model for model in self.models if model.served_name == served_name), None)

    @property
    def served_names(self) -> tuple[str, ...]:
        """Return the names clients may ask for."""
        return tuple(sorted(model.served_name for model in self.models))

    @property
    def replicas(self) -> tuple[Endpoint, ...]:
        """Return every local READY replica."""
        return tuple(replica for model in self.models for replica in model.replicas)


def parse_endpoints(data: bytes) -> Endpoints:
    """Return what the bytes say; raises Corrupt for anything else than the agent's file."""
    try:
        values = json.loads(data)
        if values["format"] != ENDPOINTS_FORMAT:
            raise ValueError(f"format {values['format']!r} is not {ENDPOINTS_FORMAT}")
        return Endpoints(
            plane=str(values["plane"]), models=tuple(_model(v) for v in values["models"])
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"not an endpoints file: {error!r}") from None


class EndpointsWatch:
    """Follows the file; `current` is the last readable content."""

    def __init__(self, path: Path, plane: str, clock: Clock) -> None:
        """Read the file once; without one the plane serves nothing yet."""
        self._file = WatchedFile(
            path, parse_endpoints, bytes_max=ENDPOINTS_BYTES_MAX, name="endpoints"
        )
        self._clock = clock
        self.current = Endpoints(plane=plane)
        self.look()

    async def follow(self, on_change: Callable[[Endpoints], Awaitable[None]]) -> None:
        """Look twice a second for ever, and hand on what is new."""
        while True:
            known = self.current
            self.look()
            if self.current != known:
                await on_change(self.current)
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read the file if it changed; what is absent or damaged changes nothing."""
        found = self._file.look()
        if not isinstance(found, Unread):
            self.current = found


def _model(values: Mapping[str, object]) -> Model:
    replicas = values["replicas"]
    context_tokens = values["context_tokens"]
    if not isinstance(replicas, list) or not isinstance(context_tokens, int):
        raise ValueError("replicas must be a list, context_tokens a number")
    return Model(
        served_name=str(values["served_name"]),
        deployment=str(values["deployment"]),
        base_model=str(values["base_model"]),
        context_tokens=context_tokens,
        replicas=tuple(Endpoint(name=str(r["name"]), grpc=str(r["grpc"])) for r in replicas),
    )
