"""The steps of a plan: frozen values that compare equal and describe themselves.

`plan` makes them, `apply` does them; each is harmless when done twice.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReplica:
    """Start one replica; `replaces` names the failed one whose record it takes over.

    `nodes` by the plane's own names; none in a pool whose nodes are not listed. `restarts` and
    `failures`, those in a row, are before this start.
    """

    deployment: str
    revision: int
    pool: str
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    failures: int = 0
    replaces: str | None = None

    def describe(self) -> str:
        """Return the step in a few words."""
        instead = f" instead of {self.replaces}" if self.replaces else ""
        where = f" ({', '.join(self.nodes)})" if self.nodes else ""
        return f"start {self.deployment} r{self.revision} on {self.pool}{where}{instead}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReplica:
    """Take a replica out of the gateway's rotation; what is in flight goes on."""

    name: str
    reason: str

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"drain {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviveReplica:
    """Put a draining replica back into the gateway's rotation: it has its weights in memory."""

    name: str
    reason: str

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"revive {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReplica:
    """End a replica that serves nobody (SIGTERM, SIGKILL after the grace) and forget it."""

    name: str
    reason: str

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"stop {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceReplica:
    """Make sure that nothing of a failed replica is left: processes killed, ports free.

    Its record stays as FAILED with the reason, until a replacement takes it over.
    """

    name: str
    reason: str

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"fence {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetReplica:
    """Remove the record of a failed replica that nothing replaces."""

    name: str

    def describe(self) -> str:
        """Return the step in a few words."""
        return f"forget {self.name}"


Action = StartReplica | DrainReplica | ReviveReplica | StopReplica | FenceReplica | ForgetReplica
