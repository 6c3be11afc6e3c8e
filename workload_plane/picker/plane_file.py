"""picker.json: what the picker is told of the plane, written by the agent beside endpoints.json.

`parse_plane` is pure; the last readable content stays in force, so the picker steers with the
agent and the control plane dead.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skerry.fleet.routing import RoutingPolicy
from skerry.fleet.token_budget import BudgetPeriod
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.watched_file import Unread, WatchedFile
from workload_plane.picker.facts import DeploymentTold, PeerTold, ReplicaTold
from workload_plane.picker.key_tokens import TokenBounds
from workload_plane.picker.wire import PLANE_FILE_FORMAT

LOOK_SECONDS = 0.2
PLANE_BYTES_MAX = 64 * 1024 * 1024
# Of what is no picker file: another shape, or numbers and nests past all bounds.
_MISTAKES = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class PlaneTold(NamedTuple):
    """All that picker.json tells."""

    plane: str = ""
    deployments: tuple[DeploymentTold, ...] = ()
    key_limits: Mapping[str, int] = {}  # requests at once, by the key's name
    key_tokens: Mapping[str, TokenBounds] = {}  # tokens a minute and a day or month, likewise

    @property
    def peers(self) -> Mapping[str, str]:
        """Return the addresses of all peers by plane."""
        return {peer.plane: peer.address for one in self.deployments for peer in one.peers}


def parse_plane(data: bytes) -> PlaneTold:
    """Return what the bytes say; raises Corrupt for anything else than the agent's file."""
    try:
        values = json.loads(data)
        if values["format"] != PLANE_FILE_FORMAT:
            raise ValueError(f"format {values['format']!r} is not {PLANE_FILE_FORMAT}")
        return PlaneTold(
            plane=str(values["plane"]),
            deployments=tuple(_deployment(entry) for entry in values["deployments"]),
            key_limits={  # none from an agent of an earlier release
                str(name): int(count) for name, count in values.get("key_limits", {}).items()
            },
            key_tokens={
                str(name): TokenBounds(
                    int(one["per_minute"]),
                    int(one["budget"]),
                    BudgetPeriod.DAY if one["period"] == "day" else BudgetPeriod.MONTH,
                )
                for name, one in values.get("key_tokens", {}).items()
            },
        )
    except _MISTAKES as error:
        raise Corrupt(f"not a picker file: {error!r}") from None


class PlaneFile:
    """Follows the file; `current` is the last readable content."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Read nothing yet."""
        self._file = WatchedFile(path, parse_plane, bytes_max=PLANE_BYTES_MAX, name="picker")
        self._clock = clock
        self.current = PlaneTold()

    async def follow(self, on_change: Callable[[PlaneTold], None]) -> None:
        """Look five times a second for ever, and hand on what is new."""
        while True:
            known = self.current
            self.look()
            if self.current != known:
                on_change(self.current)
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read the file if it changed; what is absent or damaged changes nothing."""
        found = self._file.look()
        if not isinstance(found, Unread):
            self.current = found


def _deployment(values: Mapping[str, Any]) -> DeploymentTold:
    return DeploymentTold(
        name=str(values["name"]),
        policy=RoutingPolicy(values["policy"]),
        priority=int(values["priority"]),
        replicas=tuple(_replica(entry) for entry in _list(values["replicas"])),
        peers=tuple(
            PeerTold(str(entry["plane"]), str(entry["address"]), int(entry["distance_rank"]))
            for entry in _list(values["peers"])
        ),
        concurrent_requests=int(values["concurrent_requests"]),
        queue_requests_max=int(values["queue_requests_max"]),
        hold_seconds=float(values["hold_seconds"]),
        ttft_seconds=float(values.get("ttft_seconds", 0.0)),  # an agent of an earlier release
    )


def _replica(values: Mapping[str, Any]) -> ReplicaTold:
    return ReplicaTold(
        str(values["name"]), str(values["http"]), str(values["grpc"]), values["draining"] is True
    )


def _list(values: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(values, list):
        raise ValueError("replicas and peers must be lists")
    return values
