"""What the link remembers of every plane in this run of the control plane: in memory only.

`service.py` writes, the reconcile loop and the API read. Times are of the monotonic clock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from control_plane.link.push import Outbox
from control_plane.reconcile.snapshot import LinkView
from skerry.fleet.generation import Version
from skerry.fleet.observation import Observation, PlaneCondition, PlaneReport
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict


@dataclass(slots=True)
class _PlaneLink:
    heard_at_seconds: float
    observation: Observation | None = None
    agent_id: str = ""
    outbox: Outbox | None = None  # None: no stream
    nack: str = ""


class Registry:
    """Every plane's stream, last words and newest desired state."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._started_at_seconds = clock.monotonic()
        self._planes: dict[str, _PlaneLink] = {}
        self._desired: dict[str, tuple[Version, bytes]] = {}
        self._conditions: Mapping[str, PlaneCondition] = {}

    @property
    def since_start_seconds(self) -> float:
        """Return the age of this control plane."""
        return self._clock.monotonic() - self._started_at_seconds

    def open(self, report: PlaneReport, agent_id: str, timeout_seconds: float) -> Outbox:
        """Take a plane's stream in; Conflict while another agent of that name is heard."""
        name = report.identity.name
        now = self._clock.monotonic()
        link = self._planes.setdefault(name, _PlaneLink(heard_at_seconds=now))
        alive = link.outbox is not None and now - link.heard_at_seconds <= timeout_seconds
        if alive and link.agent_id != agent_id:
            raise Conflict(
                f"another agent is connected as plane {name!r}; stop it, or give this one a name"
                " and a certificate of its own"
            )
        outbox = Outbox()
        link.agent_id, link.outbox, link.nack = agent_id, outbox, ""
        if name in self._desired:
            outbox.put(*self._desired[name])
        self.hear(name)
        self.observe(report)
        return outbox

    def close(self, plane: str, outbox: Outbox) -> None:
        """Forget a stream that ended, unless a newer one took its place."""
        link = self._planes.get(plane)
        if link is not None and link.outbox is outbox:
            link.outbox = None
            self._wake()

    def hear(self, plane: str) -> None:
        """Note that the plane said something now."""
        self._planes[plane].heard_at_seconds = self._clock.monotonic()

    def observe(self, report: PlaneReport) -> None:
        """Keep a plane's newest report and wake the loop when it says anything new."""
        link = self._planes[report.identity.name]
        known = link.observation
        link.observation = Observation(report=report, received_at=self._clock.now())
        if known is None or known.report != report:
            self._wake()

    def acknowledge(self, plane: str, held: Version) -> None:
        """Note which version a plane holds durably."""
        link = self._planes[plane]
        link.nack = ""
        if link.observation is not None:
            self.observe(replace(link.observation.report, held=held))

    def refuse(self, plane: str, reason: str) -> None:
        """Note why a plane refused what was pushed."""
        self._planes[plane].nack = reason
        self._wake()

    def push(self, plane: str, version: Version, payload: bytes) -> None:
        """Send a plane its newest desired state, now or when it connects."""
        self._desired[plane] = (version, payload)
        link = self._planes.get(plane)
        if link is not None and link.outbox is not None:
            link.outbox.put(version, payload)

    def judged(self, conditions: Mapping[str, PlaneCondition]) -> None:
        """Keep how the planes were judged last, for people to read."""
        self._conditions = conditions

    def conditions(self) -> Mapping[str, PlaneCondition]:
        """Return how the planes were judged last, by name."""
        return self._conditions

    def pushed(self, plane: str) -> Version | None:
        """Return the version of what was last pushed to a plane in this run."""
        known = self._desired.get(plane)
        return known[0] if known else None

    def view(self, plane: str) -> LinkView:
        """Return what is known of a plane's link; a plane never heard is silent since our start."""
        link = self._planes.get(plane)
        if link is None:
            return LinkView(connected=False, silent_seconds=self.since_start_seconds)
        return LinkView(
            connected=link.outbox is not None,
            silent_seconds=self._clock.monotonic() - link.heard_at_seconds,
            report=link.observation.report if link.observation else None,
            nack=link.nack,
        )

    def reports(self) -> tuple[PlaneReport, ...]:
        """Return the newest report of every plane heard in this run."""
        known = (link.observation for link in self._planes.values())
        return tuple(observation.report for observation in known if observation is not None)

    def observations(self) -> Mapping[str, Observation]:
        """Return the newest observation of every plane heard in this run, by name."""
        return {
            name: link.observation
            for name, link in sorted(self._planes.items())
            if link.observation is not None
        }
