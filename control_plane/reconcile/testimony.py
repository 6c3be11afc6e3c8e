"""What other planes say of one that is silent, and which of it counts. Pure.

A witness is another plane's gateway. It counts against a plane when it saw replicas serve there
until about when the plane itself told us last that they do: ages are compared, each by the clock of
who measured it, for a path that was cut long before tells nothing of a plane that only loses its
link to us.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import LinkView, PlaneView, Snapshot, Told
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneState

# Larger fleets are asked of one another only while some plane is silent: each plane speaks of all.
PLANES_TOLD_MAX = 100

# From a plane's end until its peers' agents have seen it: two health checks, half a second apart,
# that each wait a second for an answer, and an agent that looks twice a second.
SIGHT_SECONDS = 4.0

# A gateway calls every peer unreachable until its first checks have ended: agents of this release
# wait for them themselves.
DENIED_SECONDS_MIN = 5.0
# A plane whose gateway answers, and whose replicas ended before it fell silent, may be starting
# them: it is given as long as a rollout gives a replica (`rollout.READY_SECONDS_MIN`).
RETURN_SECONDS = 600.0

NEVER_SERVED = "it never saw replicas serve there"
BLIND = "it sees none of the planes that are heard here: it is cut off itself"
NO_AGE = (
    "it does not tell how long ago it saw replicas serve there, being of an older release, and was"
    " not heard to see them before"
)
JUST_DENIED = "it is of an older release, and its gateway may only have started anew"
LONG_BEFORE = "it saw replicas serve there for the last time long before the plane was heard last"
LONG_BEFORE_END = (
    "it saw replicas serve there for the last time long before the plane itself told of none"
)
OTHERS_LATER = "another one saw replicas serve there long after it did"
SIGHT_LOST = "it lost sight of the plane at another time than its replicas ended or it was silent"
MAY_RETURN = (
    "its replicas ended before it fell silent, but its gateway answers: they may yet come back"
)

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
    # What they said before of planes that they do not call serving, by when we heard it.
    told: Mapping[str, Mapping[str, Told]]
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
        return Testimony(views={}, blind=frozenset(), asked=asked, clocks={}, told={})
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
        told={name: plane.link.told for name, plane in fresh.items()},
        about=None if about is None else {name: tuple(found) for name, found in about.items()},
    )


def testify(testimony: Testimony, plane: PlaneView, snapshot: Snapshot) -> tuple[PeerView, ...]:
    """Return what each witness says of a plane, and why it does not count where it does not."""
    witnesses = testimony.of(plane.name)
    sights = {witness: _sight(testimony, witness, plane.name) for witness in witnesses}
    # Whoever saw it serve last, whatever it sees now, shows that what others saw was no loss.
    newest = min((one.age for one in sights.values() if one), default=0.0)
    end = _End(
        silence=silence_of(plane, snapshot.now),
        unready=_unready(plane.link),
        newest=newest,
        together=together_seconds(snapshot.policy),
    )
    found = []
    for witness in witnesses:
        told = testimony.views.get(witness, {}).get(plane.name)
        if told is None:
            found.append(PeerView(plane=witness, verdict=PeerVerdict.UNKNOWN))
            continue
        view = _dated(told, sights[witness], snapshot.now)
        why = ""
        if view.is_gone:
            why = BLIND if witness in testimony.blind else _discounted(view, sights[witness], end)
        elif view.verdict is PeerVerdict.UNREACHABLE:
            why = NEVER_SERVED if witness in testimony.clocks else NO_AGE
        # Readings of its clock mean nothing to anybody else.
        found.append(
            PeerView(
                plane=witness,
                verdict=view.verdict,
                since=view.since,
                served_until=view.served_until,
                discounted=why,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """What we know of a silent plane's end by our own ears; in seconds, as all ages here.

    `unready` is None where its last report names READY replicas; `newest` is since any witness saw
    some; `together` is how far apart what is seen of one loss may be.
    """

    silence: float
    unready: float | None
    newest: float
    together: float

    @property
    def last_told(self) -> float:
        """Return since when it has not told of READY replicas."""
        return self.silence if self.unready is None else max(self.silence, self.unready)

    def is_at(self, age: float | None) -> bool:
        """Say whether that was about when it fell silent, or when its replicas ended before."""
        moments = (self.silence, self.last_told)
        return age is not None and any(abs(age - one) <= self.together for one in moments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """How long ago a witness saw replicas serve, for all that is known.

    `denied` is for how long it says that it does so no more, where it tells no age itself, and
    `unreachable` for how long it was heard to call the plane so, None where it does not.
    """

    age: float
    denied: float | None = None
    unreachable: float | None = None


def _sight(testimony: Testimony, witness: str, subject: str) -> _Sight | None:
    """Return when the witness saw the subject serve last; None: nobody can tell.

    By its own monotonic clock. A witness of an older release tells none: it saw the subject serve
    for as long as it was heard to say so.
    """
    view = testimony.views.get(witness, {}).get(subject)
    told = testimony.told.get(witness, {}).get(subject, Told())
    clock = testimony.clocks.get(witness)
    if clock is None:
        served, denied = told.served_seconds, told.denied_seconds
        if served is None or denied is None:
            return None
        return _Sight(age=served, denied=denied, unreachable=told.unreachable_seconds)
    until = view.served_until_seconds if view is not None else None
    if until is None or until > clock:
        return None
    return _Sight(age=clock - until, unreachable=told.unreachable_seconds)


def _dated(view: PeerView, sight: _Sight | None, now: datetime) -> PeerView:
    """Return the view with when it saw replicas serve last, where only we know of that."""
    gone = (PeerVerdict.REACHABLE, PeerVerdict.UNREACHABLE)
    if sight is None or sight.denied is None or view.verdict not in gone:
        return view
    return replace(view, served_until=now - timedelta(seconds=sight.age))


def _discounted(view: PeerView, sight: _Sight | None, end: _End) -> str:
    """Return why a view of a plane that is gone does not count, or nothing."""
    if sight is None:
        return NO_AGE
    if sight.denied is not None and sight.denied < DENIED_SECONDS_MIN:
        return JUST_DENIED
    age = sight.age
    if age > end.last_told + end.together:
        return LONG_BEFORE if end.unready is None else LONG_BEFORE_END
    if age > end.newest + end.together:
        return OTHERS_LATER
    if age <= end.silence + end.together:
        return ""
    # Its replicas had ended, by its own word, before it fell silent: is it gone by now as well?
    if view.verdict is PeerVerdict.REACHABLE:
        return MAY_RETURN if end.silence <= RETURN_SECONDS else ""
    return "" if end.is_at(sight.unreachable) else SIGHT_LOST


def _unready(link: LinkView) -> float | None:
    """Return for how long a plane has told of no READY replica, None where it does, or is unheard.

    Counted from the first report that names none: what served before it came is not known.
    """
    return None if link.report is None else link.unready_seconds


def silence_of(plane: PlaneView, now: datetime) -> float:
    """Return for how long a plane has been silent, also before a start of ours.

    What is stored of that is of the database's clock, told by ours: it is asked only of planes that
    were not heard since.
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
