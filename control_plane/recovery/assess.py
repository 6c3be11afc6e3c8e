"""Does the database know less than the planes hold, and what differs? Pure; `run.py` asks it.

What runs is truth: a difference is adopted unless only a person can know what was meant.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from control_plane.reconcile.leftovers import leftovers
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from control_plane.recovery.served import Claim, takers_of
from control_plane.store.values import TAKING_IN
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.digests import split_digest
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import PlaneReport, PlaneState

NAMES_SHOWN_MAX = 5
_NO_TRUTHS: Mapping[str, "Truth"] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a plane answered when it was asked for all that it holds; no state: it cannot tell."""

    plane: str
    state: DesiredState | None
    payload: bytes = b""
    digest: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an assessment needs: the fleet, our epoch, what planes told, why we must recover.

    `mark` is set where the database says that it was restored.
    """

    snapshot: Snapshot
    epoch: int
    told: Mapping[str, Told] = field(default_factory=dict)
    mark: str = ""


class Resolution(StrEnum):
    """What is to become of a difference."""

    ADOPT = "adopt"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How planes and database differ about `deployments/X` or `planes/X`, and what follows."""

    subject: str
    resolution: Resolution
    message: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Replicas of a deployment or revision that nobody described: they are kept as they are."""

    plane: str
    deployment: str
    revision: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSight:
    """What was heard of a plane in this run; versions are NEVER where there is none.

    `seen` is the highest that it ever held: above `held` where its newest copy was damaged.
    """

    plane: str
    heard: bool
    held: Version
    seen: Version
    known: Version
    replicas: int
    is_ahead: bool
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A deployment as planes hold it, and how many of them; `deleting`: it was meant to go."""

    deployment: Deployment
    deleting: bool
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """How the database compares with the planes; `reason` is empty when nothing is to recover.

    `to_ask` are planes whose whole desired state is needed; `epoch_floor` is what the epoch must
    rise above, 0 when ours already is. `truths` are by deployment; `takers` have, by deployment
    that loses its served name, the one that has it by now.
    """

    reason: str = ""
    planes: tuple[PlaneSight, ...] = ()
    differences: tuple[Difference, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    waits_for: tuple[str, ...] = ()
    to_ask: tuple[str, ...] = ()
    epoch_floor: int = 0
    truths: Mapping[str, Truth] = field(default_factory=dict)
    takers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_recovering(self) -> bool:
        """Say whether nothing may be placed, pushed or changed yet."""
        return bool(self.reason)

    @property
    def may_end(self) -> bool:
        """Say whether nobody is waited for and nobody need be asked."""
        conflicts = any(d.resolution is Resolution.CONFLICT for d in self.differences)
        return not self.waits_for and not conflicts


def is_ahead(report: PlaneReport | None, known: Version, epoch: int) -> bool:
    """Say whether a plane holds, or heard a leader of, more than the database can know of."""
    if report is None:
        return False
    return report.generation_seen > known.generation or epoch_seen(report) > epoch


def epoch_seen(report: PlaneReport) -> int:
    """Return the highest epoch that a plane holds, held and lost, or was welcomed under."""
    return max(report.held.epoch, report.seen.epoch, report.newest_epoch)


def assess(facts: Facts) -> Assessment:
    """Return how the database compares with what planes hold and told."""
    snapshot = facts.snapshot
    if not facts.mark and not any(
        is_ahead(plane.link.report, _known(snapshot, plane), facts.epoch)
        for plane in snapshot.planes
    ):
        return Assessment()
    sights = tuple(_sight(plane, _known(snapshot, plane), facts) for plane in snapshot.planes)
    ahead = [sight for sight in sights if sight.is_ahead]
    reason = facts.mark or _reason(ahead)
    is_begun = facts.mark == TAKING_IN
    told = {
        sight.plane: state
        for sight in ahead
        # Ahead by its epoch alone it may hold less than the database has.
        if sight.held.generation >= sight.known.generation
        and (state := _told(facts, sight.plane)) is not None
    }
    truths = _truths(told)
    takers = takers_of(_claims(snapshot, told, truths))
    quarantined = quarantined_in(snapshot, truths)
    missing = tuple(sorted(s.plane for s in ahead if s.plane not in facts.told))
    return Assessment(
        reason=reason,
        planes=sights,
        differences=(
            *_plane_differences(ahead, facts),
            # Of deployments all was settled before the first plane was taken in; who is left tells
            # of some of them only.
            *(() if is_begun else _deployment_differences(snapshot, told, truths, takers)),
            *(() if is_begun else _quarantine_conflicts(quarantined)),
        ),
        quarantined=quarantined,
        waits_for=(
            *(f"plane {name}: it is asked what it holds" for name in missing),
            *_silent(snapshot, told),
        ),
        to_ask=missing,
        # Who is taken in is ahead no more, and counted all the same.
        epoch_floor=_epoch_floor(
            snapshot, [s for s in sights if s.heard] if is_begun else ahead, facts.epoch
        ),
        truths=truths,
        takers=takers,
    )


def same_but_for_digests(one: Deployment, other: Deployment) -> bool:
    """Say whether two specs are one, whatever contents the catalogue had added to either."""
    if one is other:  # most of the thousands that are compared
        return True
    return _bare(one) == _bare(other)


def _bare(deployment: Deployment) -> Deployment:
    revision = deployment.revision
    engine, model = revision.engine, revision.base_model
    if engine.speculative is not None and engine.speculative.draft_model_uri:
        draft = split_digest(engine.speculative.draft_model_uri)[0]
        engine = replace(engine, speculative=replace(engine.speculative, draft_model_uri=draft))
    if engine.lora is not None:
        adapters = tuple(replace(a, uri=split_digest(a.uri)[0]) for a in engine.lora.adapters)
        engine = replace(engine, lora=replace(engine.lora, adapters=adapters))
    model = replace(model, uri=split_digest(model.uri)[0])
    return replace(deployment, revision=replace(revision, engine=engine, base_model=model))


def _sight(plane: PlaneView, known: Version, facts: Facts) -> PlaneSight:
    report = plane.link.report
    ahead = is_ahead(report, known, facts.epoch)
    answer = facts.told.get(plane.name)
    if report is None:
        note = "not heard: its share stays reserved as the database has it"
    elif not ahead:
        note = "holds nothing that the database does not know"
    elif answer is None:
        note = "asked what it holds"
    elif answer.state is None:
        note = "cannot tell what it holds; what it runs counts"
    else:
        note = "told all that it holds"
    return PlaneSight(
        plane=plane.name,
        heard=report is not None,
        held=report.held if report else NEVER,
        seen=max(report.held, report.seen) if report else NEVER,
        known=known,
        replicas=len(report.replicas) if report else 0,
        is_ahead=ahead,
        note=note,
    )


def _known(snapshot: Snapshot, plane: PlaneView) -> Version:
    stored = snapshot.desired_of(plane.name)
    return stored.version if stored is not None else NEVER


def _reason(ahead: list[PlaneSight]) -> str:
    first = max(ahead, key=lambda sight: (sight.seen, sight.plane))
    more = f" and {len(ahead) - 1} more planes do" if len(ahead) > 1 else ""
    return (
        f"plane {first.plane} {_had(first)}, the database knows {first.known} of it"
        f"{more}: the database is lost or an older backup"
    )


def _had(sight: PlaneSight) -> str:
    if sight.seen > sight.held:
        return f"lost version {sight.seen} to damage and holds {sight.held}"
    return f"holds version {sight.held}"


def _told(facts: Facts, plane: str) -> DesiredState | None:
    answer = facts.told.get(plane)
    return answer.state if answer else None


def _truths(told: Mapping[str, DesiredState]) -> dict[str, Truth]:
    """Return each deployment as the newest of its holders has it."""
    held: dict[str, list[tuple[DesiredState, Assignment]]] = {}
    for _, state in sorted(told.items()):
        for assignment in state.assignments:
            held.setdefault(assignment.deployment.name, []).append((state, assignment))
    return {name: _truth(holders) for name, holders in sorted(held.items())}


def _truth(holders: list[tuple[DesiredState, Assignment]]) -> Truth:
    """Return the newest spec: the highest revision, then epoch, then what most planes hold.

    Generations of different planes say nothing of each other.
    """
    specs = [_newest(assignment) for _, assignment in holders]
    agreed = _agreed(specs)

    def order(index: int) -> tuple[int, int, int, str]:
        state, newest = holders[index][0], specs[index]
        return newest.revision.number, state.version.epoch, agreed[id(newest)], state.plane

    return Truth(
        deployment=specs[max(range(len(specs)), key=order)],
        # Once an operator wanted its end, a plane that has not heard of it is merely late.
        deleting=any(assignment.tombstone for _, assignment in holders),
        holders=tuple(state.plane for state, _ in holders),
    )


def _agreed(specs: list[Deployment]) -> Mapping[int, int]:
    """Return by the id of each how many equal it; to hash one takes long, and most are the same."""
    distinct = {id(one): one for one in specs}
    times = Counter(map(id, specs))
    agreed: Counter[Deployment] = Counter()
    for key, one in distinct.items():
        agreed[one] += times[key]
    return {key: agreed[one] for key, one in distinct.items()}


def _newest(assignment: Assignment) -> Deployment:
    """Return the deployment at the newest revision it was told, that of a rollout under way."""
    newest = max(assignment.revisions, key=lambda revision: revision.number)
    if newest is assignment.deployment.revision:
        return assignment.deployment
    return replace(assignment.deployment, revision=newest)


def _plane_differences(ahead: list[PlaneSight], facts: Facts) -> list[Difference]:
    found = []
    for sight in ahead:
        answer = facts.told.get(sight.plane)
        if answer is None:
            continue
        outcome = (
            "its desired state, envelopes and placements are taken in"
            if answer.state is not None
            else "its generation is raised; what it runs counts as placed"
        )
        found.append(
            Difference(
                subject=f"planes/{sight.plane}",
                resolution=Resolution.ADOPT,
                message=f"it {_had(sight)}, the database knows {sight.known}",
                outcome=outcome,
            )
        )
    return found


def _claims(
    snapshot: Snapshot, told: Mapping[str, DesiredState], truths: Mapping[str, Truth]
) -> Iterable[Claim]:
    """Return who has which served name once what planes hold is taken in."""
    stored = {demand.deployment.name: demand for demand in snapshot.demands}
    for name in sorted({*stored, *truths}):
        held, truth = stored.get(name), truths.get(name)
        if truth is not None and (held is None or is_behind(held.deployment, truth)):
            known = truth.deployment
        else:
            assert held is not None, "it is stored, or a plane told of it"
            known = held.deployment
        holders = truth.holders if truth is not None else ()
        yield Claim(
            deployment=name,
            served_name=known.revision.base_model.served_name,
            deleting=any(one.deleting for one in (held, truth) if one is not None),
            stored=held is not None,
            told=truth is not None,
            epoch=max((told[plane].version.epoch for plane in holders), default=0),
            holders=len(holders),
        )


def _deployment_differences(
    snapshot: Snapshot,
    told: Mapping[str, DesiredState],
    truths: Mapping[str, Truth],
    takers: Mapping[str, str],
) -> list[Difference]:
    found = []
    stored = {demand.deployment.name: demand for demand in snapshot.demands}
    for name, truth in truths.items():
        held = stored.get(name)
        goes = truth.deleting or (held is not None and held.deleting)
        if name in takers and not goes:
            found.append(_superseded(name, takers[name]))
        elif message := _unlike(held.deployment if held else None, truth):
            outcome = f"taken in from {_some(truth.holders)}"
            found.append(_of(name, Resolution.ADOPT, message, outcome))
        elif held is not None and truth.deleting and not held.deleting:
            message = "the planes were told that it goes"
            found.append(_of(name, Resolution.ADOPT, message, "it goes on being deleted"))
        specs = _specs(name, truth, told)
        if others := _rivals(specs, truth, told):
            message = (
                f"{_some(others)} hold another spec of revision {truth.deployment.revision.number}"
                f" than {_some(_agreeing(specs, truth))}, and neither is known to be newer"
            )
            outcome = "that of the most planes is taken in; apply it again to change it"
            found.append(_of(name, Resolution.CONFLICT, message, outcome))
    running = _running(snapshot)
    for name, held in sorted(stored.items()):
        if not told or name in truths or held.deleting:
            continue
        if name in takers:
            found.append(_superseded(name, takers[name]))
        elif name not in running:
            message = "no plane that holds more than the database names it: it was removed since"
            outcome = "kept as the database has it, and placed again; delete it if it was to go"
            found.append(_of(name, Resolution.CONFLICT, message, outcome))
    return found


def _superseded(name: str, taker: str) -> Difference:
    """Return what becomes of a deployment whose served name passed on: only one can have it."""
    message = f"{taker} has its served name by now: it was removed since"
    return _of(name, Resolution.CONFLICT, message, f"deleted: {taker} is served by that name")


def _unlike(held: Deployment | None, truth: Truth) -> str:
    """Return how a stored deployment is behind what planes hold; empty when it is not."""
    wanted = truth.deployment
    if held is None:
        return f"the database does not know it; planes hold revision {wanted.revision.number}"
    if held.revision.number > wanted.revision.number or same_but_for_digests(held, wanted):
        return ""
    if held.revision.number < wanted.revision.number:
        return (
            f"the database has revision {held.revision.number},"
            f" planes hold {wanted.revision.number}"
        )
    return "planes hold another spec of the same revision"


def is_behind(held: Deployment | None, truth: Truth) -> bool:
    """Say whether what planes hold of a deployment is to replace what the database has."""
    return bool(_unlike(held, truth))


def _rivals(
    specs: list[tuple[str, Deployment]], truth: Truth, told: Mapping[str, DesiredState]
) -> tuple[str, ...]:
    """Return the planes that hold another spec, which nothing says is the older one."""
    chosen_epoch = max(told[plane].version.epoch for plane in _agreeing(specs, truth))
    return tuple(
        plane
        for plane, spec in specs
        if spec.revision.number == truth.deployment.revision.number
        and told[plane].version.epoch >= chosen_epoch
        and not same_but_for_digests(spec, truth.deployment)
    )


def _agreeing(specs: list[tuple[str, Deployment]], truth: Truth) -> tuple[str, ...]:
    return tuple(plane for plane, spec in specs if same_but_for_digests(spec, truth.deployment))


def _specs(
    name: str, truth: Truth, told: Mapping[str, DesiredState]
) -> list[tuple[str, Deployment]]:
    return [
        (plane, _newest(assignment))
        for plane in truth.holders
        for assignment in told[plane].assignments
        if assignment.deployment.name == name
    ]


def _running(snapshot: Snapshot) -> set[str]:
    return {
        replica.deployment
        for plane in snapshot.planes
        if plane.link.report is not None
        for replica in plane.link.report.replicas
    }


def quarantined_in(
    snapshot: Snapshot, truths: Mapping[str, Truth] = _NO_TRUTHS
) -> tuple[Quarantined, ...]:
    """Return replicas that no spec is known of, ours or a plane's, nor that they were to go."""
    newest = {d.deployment.name: d.deployment.revision.number for d in snapshot.demands}
    for name, truth in truths.items():
        newest[name] = max(newest.get(name, 0), truth.deployment.revision.number)
    removed = {
        (plane, one.deployment.name) for plane, here in leftovers(snapshot).items() for one in here
    }
    unknown = Counter(
        (plane.name, replica.deployment, replica.revision)
        for plane in snapshot.planes
        if plane.link.report is not None
        for replica in plane.link.report.replicas
        if replica.revision > newest.get(replica.deployment, 0)
        and (plane.name, replica.deployment) not in removed
    )
    return tuple(
        Quarantined(plane=plane, deployment=name, revision=revision, replicas=count)
        for (plane, name, revision), count in sorted(unknown.items())
    )


def _quarantine_conflicts(quarantined: tuple[Quarantined, ...]) -> list[Difference]:
    return [
        _of(
            one.deployment,
            Resolution.CONFLICT,
            f"plane {one.plane} runs {one.replicas} replicas of its revision {one.revision}, which"
            " neither the database nor any plane describes",
            "quarantined: they are kept, and their plane keeps what it was told, until the"
            " deployment is applied again",
        )
        for one in quarantined
    ]


def _silent(snapshot: Snapshot, told: Mapping[str, DesiredState]) -> list[str]:
    """Return whom nobody has heard of yet: planes of the database, and those that planes name."""
    heard = {plane.name for plane in snapshot.planes if plane.link.report is not None}
    lost = {
        plane.name
        for plane in snapshot.planes
        if plane.condition is not None and plane.condition.state is PlaneState.LOST
    }
    known = {plane.name for plane in snapshot.planes}
    named = {peer.plane for state in told.values() for peer in state.peers}
    return [f"plane {name}: it is not heard yet" for name in sorted((known | named) - heard - lost)]


def _epoch_floor(snapshot: Snapshot, ahead: list[PlaneSight], epoch: int) -> int:
    """Return the highest epoch seen where planes ahead have one that ours is not above."""
    behind = {sight.plane for sight in ahead}
    reports = [(plane.name, plane.link.report) for plane in snapshot.planes]
    seen = {name: epoch_seen(report) for name, report in reports if report is not None}
    if any(seen[name] > epoch for name in behind):
        return max(seen.values())
    # As high as ours, and not by us: theirs is of a leader that the database has forgotten.
    if any(sight.seen.epoch == epoch for sight in ahead):
        return epoch
    return 0


def _of(name: str, resolution: Resolution, message: str, outcome: str) -> Difference:
    return Difference(
        subject=f"deployments/{name}", resolution=resolution, message=message, outcome=outcome
    )


def _some(names: Iterable[str]) -> str:
    every = list(names)
    shown = ", ".join(every[:NAMES_SHOWN_MAX])
    more = len(every) - NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
