"""What other planes say of one that is silent, and which of it counts. Pure.

A witness is another plane's gateway. It counts against a plane when it saw replicas serve there
until about when we heard the plane last: ages are compared, each by the clock of who measured it,
for a path that was cut long before tells nothing of a plane that only loses its link to us.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneState

# Larger fleets are asked of one another only while some plane is silent: each plane speaks of all.
PLANES_TOLD_MAX = 100

# From a plane's end until its peers' agents have seen it: two health checks, half a second apart,
# that each wait a second for an answer, and an agent that looks twice a second.
SIGHT_SECONDS = 4.0

NEVER_SERVED = "it never saw replicas serve there"
BLIND = "it sees none of the planes that are heard here: it is cut off itself"
NO_AGE = "it does not tell how long ago it saw replicas serve there, being of an older release"
LONG_BEFORE = "it saw replicas serve there for the last time long before the plane was heard last"
OTHERS_LATER = "another one saw replicas serve there long after it did"

# A witness that we do not hear ourselves cannot testify: its report may be of another hour. Nor can
# one that sees none of the planes that we do hear: it is cut off itself.


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What witnesses that can testify say: by witness, then by the plane that it is about."""

    views: Mapping[str, Mapping[str, PeerView]]
    blind: frozenset[str]
    asked: tuple[str, ...]  # every plane that is not lost, of which some may not testify
    # What the witnesses' own monotonic clocks show now; not of those that do not tell.
    clocks: Mapping[str, float]
    # Of a large fleet, in which each plane looks at few others: who looks at a plane, by plane.
    about: Mapping[str, tuple[str, ...]] | None = None

    def of(self, plane: str) -> tuple[str, ...]:
        """Return who is asked about a plane."""
        asked = self.asked if self.about is None else self.about.get(plane, ())
        return tuple(witness for witness in asked if witness != plane)


def together_seconds(policy: ReconcilePolicy) -> float:
    """Return how far apart what is seen of one loss may be.

    A lease, as of planes that fall silent together: on a machine that goes down the gateway may end
    some seconds before the agent. And the time that witnesses take to see it.
    """
    return policy.lease_seconds + SIGHT_SECONDS


def hear_witnesses(snapshot: Snapshot) -> Testimony:
    """Return what the planes that we hear say of one another."""
    asked = tuple(plane.name for plane in snapshot.planes if not is_lost(plane))
    fresh = {plane.name: plane for plane in snapshot.planes if is_fresh(plane, snapshot)}
    if len(fresh) == len(snapshot.planes) > PLANES_TOLD_MAX:
        # Nobody is judged by it.
        return Testimony(views={}, blind=frozenset(), asked=asked, clocks={})
    views = {
        name: {view.plane: view for view in plane.link.report.peers}
        for name, plane in fresh.items()
        if plane.link.report is not None
    }
    seen = {name for name, plane in fresh.items() if plane.is_peer_reachable}
    blind = frozenset(name for name, told in views.items() if _is_blind(name, told, seen))
    about: dict[str, list[str]] | None = None
    if len(snapshot.planes) > PLANES_TOLD_MAX:
        about, able = {}, set(asked)
        for witness, told in sorted(views.items()):
            for subject in told if witness in able else ():
                about.setdefault(subject, []).append(witness)
    return Testimony(
        views=views,
        blind=blind,
        asked=asked,
        clocks=_clocks(fresh.values()),
        about=None if about is None else {name: tuple(found) for name, found in about.items()},
    )


def testify(testimony: Testimony, plane: PlaneView, snapshot: Snapshot) -> tuple[PeerView, ...]:
    """Return what each witness says of a plane, and why it does not count where it does not."""
    witnesses = testimony.of(plane.name)
    ages = {witness: _age(testimony, witness, plane.name) for witness in witnesses}
    # Whoever saw it serve last, whatever it sees now, shows that what others saw was no loss.
    newest = min((age for age in ages.values() if age is not None), default=0.0)
    together = together_seconds(snapshot.policy)
    ends = _Ends(
        longest=silence_of(plane, snapshot.now) + together, newest=newest, together=together
    )
    return tuple(
        _told(testimony, witness, plane.name, ages[witness], ends) for witness in witnesses
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """How long ago replicas may have been seen last by who counts; in seconds."""

    longest: float  # since the plane was heard last, and a little more
    newest: float  # since any witness saw them
    together: float


def _told(
    testimony: Testimony, witness: str, subject: str, age: float | None, ends: _Ends
) -> PeerView:
    """Return what a witness says of the subject; UNKNOWN when it says nothing."""
    told = testimony.views.get(witness, {}).get(subject)
    if told is None:
        return PeerView(plane=witness, verdict=PeerVerdict.UNKNOWN)
    why = ""
    if told.is_gone:
        why = BLIND if witness in testimony.blind else _discounted(age, ends)
    elif told.verdict is PeerVerdict.UNREACHABLE:
        why = NEVER_SERVED
    # Readings of its clock mean nothing to anybody else.
    return replace(told, plane=witness, served_until_seconds=None, discounted=why)


def _age(testimony: Testimony, witness: str, subject: str) -> float | None:
    """Return for how long the witness has not seen the subject serve; None: it does not tell."""
    told, clock = testimony.views.get(witness, {}).get(subject), testimony.clocks.get(witness)
    until = told.served_until_seconds if told is not None else None
    if until is None or clock is None or until > clock:
        return None
    return clock - until


def _discounted(age: float | None, ends: _Ends) -> str:
    """Return why a witness that sees the plane gone for so long does not count, or nothing."""
    if age is None:
        return NO_AGE
    if age > ends.longest:
        return LONG_BEFORE
    return OTHERS_LATER if age > ends.newest + ends.together else ""


def silence_of(plane: PlaneView, now: datetime) -> float:
    """Return for how long a plane has been silent, also before a start of ours.

    What is stored of that is of a wall clock: it is asked only of planes that were not heard since,
    and which views count against a plane is all that it decides.
    """
    if plane.link.report is not None or plane.heard_at is None:
        return plane.link.silent_seconds
    return max(plane.link.silent_seconds, (now - plane.heard_at).total_seconds())


def _clocks(witnesses: Iterable[PlaneView]) -> Mapping[str, float]:
    return {
        plane.name: told + age
        for plane in witnesses
        if plane.link.report is not None
        and (told := plane.link.report.told_at_seconds) is not None
        and (age := plane.link.report_age_seconds) is not None
    }


def _is_blind(witness: str, views: Mapping[str, PeerView], heard: Collection[str]) -> bool:
    """Say whether a witness sees none of the planes that we hear: its own network is at fault.

    A plane whose gateway alone is down is heard, too, so with three planes a true loss waits until
    the other one's gateway is back.
    """
    verdicts = {view.verdict for name, view in views.items() if name in heard and name != witness}
    sees = {PeerVerdict.SERVING, PeerVerdict.REACHABLE}
    return PeerVerdict.UNREACHABLE in verdicts and not verdicts & sees


def is_fresh(plane: PlaneView, snapshot: Snapshot) -> bool:
    """Say whether a plane is heard: its stream is up and said something in time."""
    timeout = snapshot.policy.heartbeat_timeout_seconds
    return plane.link.connected and plane.link.silent_seconds <= timeout


def is_lost(plane: PlaneView) -> bool:
    """Say whether a plane was judged lost."""
    return plane.condition is not None and plane.condition.state is PlaneState.LOST
