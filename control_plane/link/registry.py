"""What the link remembers of every plane in this run of the control plane: in memory only.

`service.py` writes, the reconcile loop and the API read. Times are of the monotonic clock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from control_plane.autoscale.shares import Loads, Told
from control_plane.link.convert import digest_in
from control_plane.link.decisions import PlaneDecisions
from control_plane.link.evidence import EvidenceInbox
from control_plane.link.identities import Identities
from control_plane.link.key_spending import KeySpending
from control_plane.link.push import Outbox
from control_plane.link.said import SILENT_SECONDS, Said
from control_plane.link.telling import HeldStates
from control_plane.reconcile.snapshot import LinkView
from control_plane.store.residency import Taken
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.fleetwide import FLEET_STALE_SECONDS
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.fleet.generation import Version
from skerry.fleet.observation import Observation, PlaneCondition, PlaneReport
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict

# A heartbeat renews when a plane was heard, for people and the store, no more often than this:
# thousands of new values a second would be the dearest part of a heartbeat.
RENEWED_SECONDS = 5.0
# What a plane that is away told of its answers is shown for so long, with its age.
ANSWERS_SECONDS_MAX = 3_600.0


@dataclass(slots=True)
class _PlaneLink:
    heard_at_seconds: float
    heard_before_seconds: float = 0.0  # the message before that one
    renewed_at_seconds: float = 0.0
    reported_at_seconds: float = 0.0  # when the report that is kept came in
    said: Said = field(default_factory=Said)  # what its reports before that one said
    agent_id: str = ""
    stream_number: int = 0  # of the agent's newest stream, as it counts them; 0: not told
    outbox: Outbox | None = None  # None: no stream
    loads: Told | None = None
    loads_at_seconds: float = 0.0
    nack: str = ""


class Registry:
    """Every plane's stream, last words and newest desired state."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._started_at_seconds = clock.monotonic()
        self._planes: dict[str, _PlaneLink] = {}
        self._observed: dict[str, Observation] = {}
        self._is_in_order = True  # by name: what was observed
        self._news = 0
        self._desired: dict[str, tuple[Version, bytes]] = {}
        self._digests: dict[str, bytes] = {}
        self._conditions: Mapping[str, PlaneCondition] = {}
        self._stored_planes = 0  # when we began: until the first judgement tells
        self._loaded: set[str] = set()
        self.held = HeldStates(wake, clock)
        self.decisions = PlaneDecisions()
        self.evidence = EvidenceInbox()
        self.key_spending = KeySpending()
        self.identities = Identities(self._stir)
        self.identities.show(clock)
        self.targets_at: float | None = None  # when the round ended whose targets planes were told

    def begin(self, planes: int = 0) -> None:
        """Count our age from now: a standby that takes over has heard nobody before.

        `planes` is how many the database has: the first is welcomed before any are judged.
        """
        self._started_at_seconds = self._clock.monotonic()
        self._stored_planes = planes
        self.targets_at = None

    @property
    def since_start_seconds(self) -> float:
        """Return how long this control plane has listened to planes."""
        return self._clock.monotonic() - self._started_at_seconds

    @property
    def news(self) -> int:
        """Return a number that rises with whatever a plane's judgement may rest on but time."""
        return self._news

    @property
    def revoked_planes(self) -> tuple[str, ...]:
        """Return the planes that are let in no more, by name."""
        return self.identities.revoked

    @property
    def planes(self) -> int:
        """Return how many planes there are: those judged, heard in this run or not.

        Before anything was judged those that the database had when we began.
        """
        return max(len(self._conditions) or self._stored_planes, len(self._planes))

    def open(
        self, report: PlaneReport, agent_id: str, timeout_seconds: float, *, stream_number: int
    ) -> Outbox:
        """Take a plane's stream in; Conflict while another agent of that name is heard.

        Also for a stream older than the newest of the same agent, which has given it up: what it
        says was so before. 0: the agent, of an earlier release, does not number its streams.
        """
        name = report.identity.name
        now = self._clock.monotonic()
        link = self._planes.setdefault(name, _PlaneLink(heard_at_seconds=now))
        alive = link.outbox is not None and now - link.heard_at_seconds <= timeout_seconds
        if alive and link.agent_id != agent_id:
            raise Conflict(
                f"another agent is connected as plane {name!r}; stop it, or give this one a name"
                " and a certificate of its own"
            )
        if link.agent_id == agent_id and 0 < stream_number < link.stream_number:
            raise Conflict(
                f"the agent of plane {name!r} has opened another stream since; that one counts"
            )
        outbox = Outbox()
        link.agent_id, link.outbox, link.nack = agent_id, outbox, ""
        link.stream_number = stream_number
        self._news += 1  # heard again, though its report may say nothing new
        self.hear(name)
        self.observe(report)
        self._offer(name, link)
        return outbox

    def close(self, plane: str, outbox: Outbox) -> None:
        """Forget a stream that ended, unless a newer one took its place."""
        link = self._planes.get(plane)
        if link is not None and link.outbox is outbox:
            link.outbox = None
            self._stir()

    def _stir(self) -> None:
        self._news += 1
        self._wake()

    def hear(self, plane: str) -> None:
        """Note that the plane said something now."""
        link, now = self._planes[plane], self._clock.monotonic()
        if now - link.heard_at_seconds > SILENT_SECONDS:
            link.said = link.said.after_silence(now)
        link.heard_before_seconds, link.heard_at_seconds = link.heard_at_seconds, now
        if now - link.renewed_at_seconds < RENEWED_SECONDS:
            return
        if (known := self._observed.get(plane)) is not None:
            link.renewed_at_seconds = now
            self._observed[plane] = Observation(report=known.report, received_at=self._clock.now())

    def heard_at(self, plane: str) -> float:
        """Return when the plane said something last."""
        return self._planes[plane].heard_at_seconds

    def is_of(self, plane: str, outbox: Outbox) -> bool:
        """Say whether the plane's stream is still the one of that outbox."""
        return self._planes[plane].outbox is outbox

    def fell_silent(self) -> None:
        """Have a plane judged that was not heard in time."""
        self._stir()

    def observe(self, report: PlaneReport) -> None:
        """Keep a plane's newest report and wake the loop when it says anything new."""
        name, now = report.identity.name, self._clock.monotonic()
        link, known = self._planes[name], self._observed.get(name)
        if self._keep(link, report):
            link.reported_at_seconds = now
            before = known.report if known is not None else None
            link.said = link.said.then(before, report, link.heard_before_seconds, now)

    def _keep(self, link: _PlaneLink, report: PlaneReport) -> bool:
        """Keep a report and say whether it says anything new, for which the loop is woken."""
        name = report.identity.name
        known = self._observed.get(name)
        is_new = known is None or known.report != report
        # The value of before while nothing is new: whoever compares reports sees it at a glance.
        kept = report if known is None or is_new else known.report
        link.renewed_at_seconds = self._clock.monotonic()
        self._is_in_order = self._is_in_order and known is not None
        self._observed[name] = Observation(report=kept, received_at=self._clock.now())
        if is_new:
            self._stir()
        return is_new

    def take_loads(self, plane: str, loads: Told) -> None:
        """Keep what a plane counted last; nobody is woken, it is looked at every second."""
        link = self._planes[plane]
        link.loads, link.loads_at_seconds = loads, self._clock.monotonic()
        self._loaded.add(plane)

    def tell_taken(self, taken: Taken) -> None:
        """Tell a plane how far its records are kept; one that left asks when it comes back."""
        link = self._planes.get(taken.plane)
        if link is not None and link.outbox is not None:
            link.outbox.tell_taken(taken)

    def new_loads(self) -> Loads:
        """Return what planes counted since this was asked last, the newest of each."""
        new, self._loaded = self._loaded, set()
        found = ((plane, self._planes[plane].loads) for plane in sorted(new))
        return {plane: loads for plane, loads in found if loads is not None}

    def loads(self) -> Loads:
        """Return what every plane counted last, of those that told it within a minute."""
        since = self._clock.monotonic() - FLEET_STALE_SECONDS
        return {
            name: link.loads
            for name, link in sorted(self._planes.items())
            if link.loads is not None and link.loads_at_seconds >= since
        }

    def answers(self, deployment: str, plane: str) -> tuple[RecentAnswers, float] | None:
        """Return how answers went, as a plane told last, and how old that is; for an hour."""
        link = self._planes.get(plane)
        if link is None or link.loads is None:
            return None
        age = self._clock.monotonic() - link.loads_at_seconds
        found = link.loads.answers(deployment) if age <= ANSWERS_SECONDS_MAX else None
        return (found, age) if found is not None else None

    def decided(self, deployment: str, plane: str, most: int) -> tuple[ToldDecision, ...]:
        """Return what a plane's own loop decided last, as far as it told, the newest first."""
        return self.decisions.of(deployment, plane, self._clock.monotonic(), most)

    def deciding(self, deployment: str) -> tuple[str, ...]:
        """Return the planes that told decisions of a deployment lately, by name."""
        return self.decisions.planes(deployment, self._clock.monotonic())

    def acknowledge(self, plane: str, held: Version, digest: bytes = b"") -> None:
        """Note which version a plane holds durably, and its digest."""
        link = self._planes[plane]
        link.nack = ""
        known = self._observed.get(plane)
        if known is not None:
            # Not a word of its own: the rest of the report is as old as it was.
            self._keep(link, replace(known.report, held=held, held_digest=digest))

    def told_targets(self, decided_at: float | None) -> None:
        """Note when the round ended whose targets every plane was told; None: none in this term."""
        self.targets_at = decided_at

    def has_refused(self, plane: str) -> bool:
        """Say whether a plane refused what was pushed last, so that it holds something older."""
        return bool(self._planes[plane].nack)

    def refuse(self, plane: str, reason: str) -> None:
        """Note why a plane refused what was pushed."""
        self._planes[plane].nack = reason
        self._stir()

    def push(self, plane: str, version: Version, payload: bytes) -> None:
        """Send a plane its newest desired state, now or when it connects; not what it holds.

        Told again it is only kept: as the very bytes that the store's snapshot has, megabytes are
        held once.
        """
        if self.pushed(plane) == version:
            self._desired[plane] = (version, payload)
            return
        self._desired[plane] = (version, payload)
        self._digests.pop(plane, None)
        link = self._planes.get(plane)
        if link is not None:
            self._offer(plane, link)

    def _offer(self, plane: str, link: _PlaneLink) -> None:
        if link.outbox is None or plane not in self._desired:
            return
        version, payload = self._desired[plane]
        if not self._is_held(plane, link, version, payload):
            link.outbox.put(version, payload)

    def _is_held(self, plane: str, link: _PlaneLink, version: Version, payload: bytes) -> bool:
        """Say whether the plane has that content durably, under whatever leader's epoch.

        The store never gives a generation twice, so an older leader could only repeat it; that
        there is a newer one, Welcome has told.
        """
        known = self._observed.get(plane)
        report = known.report if known else None
        if report is None or report.held.generation != version.generation:
            return False
        if not report.held_digest:  # a plane of an older release does not tell
            return False
        if plane not in self._digests:
            self._digests[plane] = digest_in(payload)
        return report.held_digest == self._digests[plane]

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
        return self._viewed(plane, link, self._clock.monotonic())

    def views(self) -> dict[str, LinkView]:
        """Return what is known of the link of every plane heard in this run, by name, in order."""
        now = self._clock.monotonic()
        self._put_in_order()
        return {plane: self._viewed(plane, self._planes[plane], now) for plane in self._observed}

    def _viewed(self, plane: str, link: _PlaneLink, now: float) -> LinkView:
        known = self._observed.get(plane)
        return LinkView(
            connected=link.outbox is not None,
            silent_seconds=now - link.heard_at_seconds,
            report=known.report if known else None,
            report_age_seconds=now - link.reported_at_seconds,
            nack=link.nack,
            unready_seconds=link.said.unready_seconds(now),
            told=link.said.told(now),
        )

    def reports(self) -> tuple[PlaneReport, ...]:
        """Return the newest report of every plane heard in this run."""
        return tuple(observation.report for observation in self._observed.values())

    def observations(self) -> Mapping[str, Observation]:
        """Return the newest observation of every plane heard in this run, by name, in order.

        As it is until the next message comes in: whoever waits in between copies it.
        """
        self._put_in_order()
        return self._observed

    def _put_in_order(self) -> None:
        if not self._is_in_order:
            self._observed = dict(sorted(self._observed.items()))
            self._is_in_order = True
