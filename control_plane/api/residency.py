"""GetResidencyProof: whether requests left their deployments' zones, by what gateways recorded.

`operator_service.py` answers with it; `skerry.fleet.residency_proof` judges.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from control_plane.api.times import moment_of, time_to_proto
from control_plane.store.deployments import list_deployments
from control_plane.store.engine import Database
from control_plane.store.residency import (
    DAYS_KEPT,
    StoredEvidence,
    evidence_of,
    read_evidence,
)
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.residency import MINUTE_MS
from skerry.fleet.residency_proof import (
    SKEW_MINUTES,
    DeploymentProof,
    Outside,
    PlaneEvidence,
    Proof,
    Unproved,
    merged,
    prove,
)
from skerry.plumbing.errors import Exhausted, InvalidInput, NotFound

# A quiet gateway says once in ten minutes that nothing went through it; then it has to be told.
TOLD_MINUTES = 12
# What a request's other gateway may have recorded by its own clock; minutes are counted whole.
_MARGIN_MS = (1 + SKEW_MINUTES) * MINUTE_MS


async def residency_proof(
    database: Database, request: pb.GetResidencyProofRequest, now: datetime
) -> pb.ResidencyProof:
    """Return what is proven of the time that a request asks about."""
    since, until = _span(request, now)
    stored = await database.run_read(list_deployments)
    allowed = {
        one.deployment.name: one.deployment.policy.residency_zones
        for one in stored
        if one.deployment.policy.residency_zones
    }
    proof = await _proof(database, allowed, since, until)
    return _proof_to_proto(_of(request.deployment, proof))


async def _proof(
    database: Database, allowed: Mapping[str, tuple[str, ...]], since: int, until: int
) -> Proof:
    """Judge a time, in halves where there is too much of it: others read and write in between."""
    read = await database.run_read(read_evidence, since - _MARGIN_MS, until + _MARGIN_MS)
    if read is None:
        middle = (since + until) // 2 // MINUTE_MS * MINUTE_MS
        if not since < middle < until:
            raise Exhausted("more was recorded within minutes than can be judged")
        first = await _proof(database, allowed, since, middle)
        return merged(first, await _proof(database, allowed, middle, until))
    # In a thread: heartbeats don't have the second that it takes.
    return await asyncio.to_thread(_judged, read, allowed, since, until)


def _judged(
    read: StoredEvidence, allowed: Mapping[str, tuple[str, ...]], since: int, until: int
) -> Proof:
    planes = evidence_of(read)
    return prove({**_held(planes), **allowed}, planes, since, until)


def _span(request: pb.GetResidencyProofRequest, now: datetime) -> tuple[int, int]:
    """Return from when to when, in ms since 1970."""
    since = moment_of(request, "since")
    until = now - timedelta(minutes=TOLD_MINUTES)
    if request.HasField("until"):
        until = moment_of(request, "until")
    if since < now - timedelta(days=DAYS_KEPT):
        raise InvalidInput(
            f"records of where requests went are kept for {DAYS_KEPT} days", field="since"
        )
    if since >= until:
        raise InvalidInput(
            f"since must be before until, which is, unless you say it, {TOLD_MINUTES} minutes ago:"
            " by then quiet planes have told",
            field="since",
        )
    return _ms(since), _ms(until)


def _held(planes: Iterable[PlaneEvidence]) -> dict[str, tuple[str, ...]]:
    """Return the deployments that a policy was held for in that time; their zones now: none."""
    return {
        row.deployment: ()
        for plane in planes
        for record in plane.records
        for row in record.rows
        if row.allowed is not None
    }


def _of(deployment: str, proof: Proof) -> Proof:
    """Return the proof of one deployment, if one was asked about."""
    if not deployment:
        return proof
    found = tuple(one for one in proof.deployments if one.deployment == deployment)
    if not found:
        raise NotFound(
            f"deployment {deployment!r} has no residency zones, and no plane held any for it in"
            " that time; `skerry describe deployment` shows them"
        )
    return replace(proof, deployments=found)


def _proof_to_proto(proof: Proof) -> pb.ResidencyProof:
    return pb.ResidencyProof(
        since=time_to_proto(_moment(proof.since_ms)),
        until=time_to_proto(_moment(proof.until_ms)),
        deployments=[_deployment(proof, one) for one in proof.deployments],
        unproved=_unproved(proof.gaps),
        unproved_count=proof.gap_count,
    )


def _deployment(proof: Proof, one: DeploymentProof) -> pb.DeploymentResidency:
    return pb.DeploymentResidency(
        deployment=one.deployment,
        zones=one.allowed,
        inside_count=one.inside,
        outside_count=one.outside,
        without_policy_count=one.without_policy,
        outside=[_outside(left) for left in one.left],
        unproved=_unproved(one.unproved),
        proven=proof.is_proven(one),
    )


def _outside(left: Outside) -> pb.OutsideRequests:
    return pb.OutsideRequests(
        minute=time_to_proto(_moment(left.minute * MINUTE_MS)),
        gateway=left.gateway,
        plane=left.plane,
        zones=left.zones or (),
        allowed_zones=left.allowed,
        version=left.generation,
        count=left.count,
    )


def _unproved(gaps: Sequence[Unproved]) -> list[pb.UnprovedTime]:
    return [
        pb.UnprovedTime(
            plane=gap.plane,
            since=time_to_proto(_moment(gap.from_ms)),
            until=time_to_proto(_moment(gap.to_ms)),
            reason=gap.why,
        )
        for gap in gaps
    ]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
