"""GetResidencyProof: whether requests left their deployments' zones, by what gateways recorded.

`operator_service.py` answers with it; `skerry.fleet.residency_proof` judges.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from control_plane.api.times import moment_of, time_to_proto
from control_plane.store.deployments import list_deployments
from control_plane.store.engine import Database
from control_plane.store.residency import DAYS_KEPT, list_evidence
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.residency import MINUTE_MS
from skerry.fleet.residency_proof import (
    SKEW_MINUTES,
    DeploymentProof,
    Outside,
    PlaneEvidence,
    Proof,
    Unproved,
    prove,
)
from skerry.plumbing.errors import InvalidInput, NotFound

# A quiet gateway says once in ten minutes that nothing went through it; then it has to be told.
TOLD_MINUTES = 12
# What a request's other gateway may have recorded by its own clock; minutes are counted whole.
_MARGIN_MS = (1 + SKEW_MINUTES) * MINUTE_MS


async def residency_proof(
    database: Database, request: pb.GetResidencyProofRequest, now: datetime
) -> pb.ResidencyProof:
    """Return what is proven of the time that a request asks about."""
    since, until = _span(request, now)
    planes = await database.run_read(list_evidence, since - _MARGIN_MS, until + _MARGIN_MS)
    stored = await database.run_read(list_deployments)
    now_allowed = {
        one.deployment.name: one.deployment.policy.residency_zones
        for one in stored
        if one.deployment.policy.residency_zones
    }
    policies = _asked(request.deployment, {**_held(planes), **now_allowed})
    # A day of a hundred busy planes is a second of work, which heartbeats don't have.
    proof = await asyncio.to_thread(prove, policies, planes, since, until)
    return _proof_to_proto(proof)


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


def _asked(
    deployment: str, policies: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    if not deployment:
        return policies
    if deployment not in policies:
        raise NotFound(
            f"deployment {deployment!r} has no residency zones, and no plane held any for it in"
            " that time; `skerry describe deployment` shows them"
        )
    return {deployment: policies[deployment]}


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
