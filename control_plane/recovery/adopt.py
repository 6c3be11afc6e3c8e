"""What is written when a recovery ends: an assessment as values for the store. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

from control_plane.reconcile.snapshot import Demand
from control_plane.recovery.assess import Assessment, Facts, PlaneSight, Told, Truth, is_behind
from control_plane.recovery.rollouts import rollout_of
from control_plane.recovery.terms import inferred_regions, inferred_terms
from control_plane.store.values import TAKING_IN, AdoptedDeployment, AdoptedPlane, Adoption
from skerry.fleet.api_key import ApiKey
from skerry.fleet.deployment import Revision
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.names import SEPARATOR
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Placement

REASON = "it runs there: adopted from its plane when the database was recovered"
_RUNNING = (ReplicaState.READY, ReplicaState.STARTING)


def adoption_of(facts: Facts, found: Assessment) -> Adoption:
    """Return what is written when the recovery ends as it was assessed."""
    snapshot = facts.snapshot
    stored = {demand.deployment.name: demand for demand in snapshot.demands}
    deployments = tuple(
        AdoptedDeployment(
            deployment=truth.deployment,
            revisions=_revisions(name, truth, facts.told),
            deleting=truth.deleting or name in found.takers,
        )
        for name, truth in found.truths.items()
        if name not in stored
        or is_behind(stored[name].deployment, truth)
        or (truth.deleting and not stored[name].deleting)
    )
    planes = tuple(_plane(sight, facts.told) for sight in found.planes if sight.is_ahead)
    policies = {name: truth.deployment.policy for name, truth in found.truths.items()}
    return Adoption(
        terms=inferred_terms(policies, facts.told.values()),
        regions=inferred_regions(facts, policies),
        rollouts=tuple(
            rollout_of(truth, facts.told, snapshot.now)
            for name, truth in found.truths.items()
            # One of a revision that planes have not heard of is the database's own.
            if name not in stored or _asked(stored[name]) <= truth.deployment.revision.number
        ),
        api_keys=_api_keys(facts.told.values()),
        revoked_planes=_revoked_planes(facts.told.values()),
        deployments=deployments,
        superseded=tuple(found.takers),
        planes=planes,
        placements=_placements(facts, planes, found),
        quarantined=tuple(sorted({one.deployment for one in found.quarantined})),
        epoch_floor=found.epoch_floor,
        is_begun=facts.mark == TAKING_IN,
        summary=_summary(deployments, planes),
        details={
            "reason": (found.reason,),
            "differences": tuple(f"{d.subject}: {d.message}" for d in found.differences),
            "quarantined": tuple(
                f"{q.replicas} of {q.deployment} revision {q.revision} on {q.plane}"
                for q in found.quarantined
            ),
            "not heard": tuple(sight.plane for sight in found.planes if not sight.heard),
        },
    )


def _api_keys(told: Iterable[Told]) -> tuple[ApiKey, ...]:
    """Return the keys that most planes hold: one that was revoked may be left at a plane or two."""
    rings = Counter(
        one.state.api_keys for one in told if one.state is not None and one.state.api_keys
    )
    # Of equally many holders the fewer keys: who is locked out says so.
    return min(rings, key=lambda ring: (-rings[ring], len(ring), str(ring)), default=())


def _revoked_planes(told: Iterable[Told]) -> tuple[str, ...]:
    """Return who is revoked, as most say of the planes that were told of anybody.

    One that names nobody says nothing: it may be of a release that is not told.
    """
    lists = Counter(
        one.state.revoked_planes
        for one in told
        if one.state is not None and one.state.revoked_planes
    )
    # Of equally many holders the longer list: who is put out can be invited anew.
    return min(lists, key=lambda names: (-lists[names], -len(names), names), default=())


def _asked(demand: Demand) -> int:
    return demand.asked_revision or demand.deployment.revision.number


def _revisions(name: str, truth: Truth, told: Mapping[str, Told]) -> tuple[Revision, ...]:
    found: dict[int, Revision] = {}
    for plane in truth.holders:
        state = told[plane].state
        for assignment in state.assignments if state else ():
            if assignment.deployment.name == name:
                found |= {revision.number: revision for revision in assignment.revisions}
    newest = truth.deployment.revision
    return tuple(revision for _, revision in sorted((found | {newest.number: newest}).items()))


def _plane(sight: PlaneSight, told: Mapping[str, Told]) -> AdoptedPlane:
    answer = told.get(sight.plane)
    # Above what it held and lost as well: it takes up nothing older than that.
    generation = max(sight.seen.generation, sight.known.generation)
    version = Version(epoch=sight.held.epoch, generation=generation)
    if answer is None or answer.state is None or sight.held.generation < sight.known.generation:
        return AdoptedPlane(plane=sight.plane, version=version)
    return AdoptedPlane(
        plane=sight.plane,
        version=version,
        payload=answer.payload,
        digest=answer.digest,
        envelopes=answer.state.envelopes,
    )


def _placements(
    facts: Facts, planes: tuple[AdoptedPlane, ...], found: Assessment
) -> tuple[Placement, ...]:
    """Return the placements: those of planes that told as they hold them, others as stored."""
    snapshot = facts.snapshot
    told = {one.plane for one in planes if one.payload}
    counts = {
        (p.deployment, p.pool): p
        for p in snapshot.placements
        if p.pool.partition(SEPARATOR)[0] not in told
    }
    known = {d.deployment.name for d in snapshot.demands} | set(found.truths)
    for adopted in planes:
        answer = facts.told.get(adopted.plane)
        state = answer.state if answer and adopted.payload else None
        held = _held(state) if state is not None else _runs(facts, adopted.plane, known)
        for (deployment, pool), count in held.items():
            before = counts.get((deployment, pool))
            if before is None or count > before.count:
                counts[deployment, pool] = Placement(
                    deployment=deployment, pool=pool, count=count, reason=REASON
                )
    return tuple(counts[key] for key in sorted(counts))


def _held(state: DesiredState) -> dict[tuple[str, str], int]:
    return {
        (envelope.deployment, envelope.pool): envelope.target
        for assignment in state.assignments
        for envelope in assignment.envelopes
        if envelope.target and not assignment.tombstone
    }


def _runs(facts: Facts, plane: str, known: set[str]) -> dict[tuple[str, str], int]:
    """Return what runs of known deployments at a plane that cannot tell what it holds."""
    view = facts.snapshot.plane(plane)
    report = view.link.report if view else None
    found: dict[tuple[str, str], int] = {}
    for replica in report.replicas if report else ():
        if replica.deployment in known and replica.state in _RUNNING:
            key = replica.deployment, replica.pool
            found[key] = found.get(key, 0) + 1
    return found


def _summary(deployments: tuple[AdoptedDeployment, ...], planes: tuple[AdoptedPlane, ...]) -> str:
    return f"{len(deployments)} deployments and {len(planes)} planes taken in as planes hold them"
