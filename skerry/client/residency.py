"""The proof of residency: call and rows; `operator_methods` makes a method of the clients of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from skerry.api.operator.v1 import operator_service_pb2 as messages
from skerry.client.operator_calls import WRITE_SECONDS_MAX, Call


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideRow:
    """Requests of one minute that left their zones: through which gateway, to which plane.

    `zones` are the plane's as they were known then, none for a plane that was not known; `allowed`
    those of the policy held then, by the desired state `version`.
    """

    minute: datetime
    gateway: str
    plane: str
    zones: tuple[str, ...]
    allowed: tuple[str, ...]
    version: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprovedRow:
    """A time of which nothing is proven for a plane, and why."""

    plane: str
    since: datetime
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentResidencyRow:
    """What is proven of one deployment: that none left its zones, if `proven`.

    Requests are counted: inside, outside, and by gateways whose plane held no policy for it then.
    """

    deployment: str
    zones: tuple[str, ...]
    proven: bool
    inside: int
    outside: int
    without_policy: int
    left: tuple[OutsideRow, ...]
    unproved: tuple[UnprovedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyRow:
    """The proof of a time; `unproved` are the first of `unproved_count` gaps of whole gateways."""

    since: datetime
    until: datetime
    deployments: tuple[DeploymentResidencyRow, ...]
    unproved: tuple[UnprovedRow, ...]
    unproved_count: int

    @property
    def proven(self) -> bool:
        """Say whether it is proven for every deployment that none left."""
        return not self.unproved_count and all(one.proven for one in self.deployments)


def prove_residency(
    project: str, since: datetime, until: datetime | None, deployment: str
) -> Call[ResidencyRow]:
    """Return the call that judges a time; `until` None: as late as planes must have told."""
    request = messages.GetResidencyProofRequest(parent=f"projects/{project}", deployment=deployment)
    request.since.FromDatetime(since)
    if until is not None:
        request.until.FromDatetime(until)
    return Call(
        method="GetResidencyProof", request=request, read=_proof, seconds_max=WRITE_SECONDS_MAX
    )


def _proof(message: messages.ResidencyProof) -> ResidencyRow:
    return ResidencyRow(
        since=_time(message.since),
        until=_time(message.until),
        deployments=tuple(map(_deployment, message.deployments)),
        unproved=_unproved(message.unproved),
        unproved_count=message.unproved_count,
    )


def _deployment(message: messages.DeploymentResidency) -> DeploymentResidencyRow:
    left = (
        OutsideRow(
            minute=_time(one.minute),
            gateway=one.gateway,
            plane=one.plane,
            zones=tuple(one.zones),
            allowed=tuple(one.allowed_zones),
            version=one.version,
            count=one.count,
        )
        for one in message.outside
    )
    return DeploymentResidencyRow(
        deployment=message.deployment,
        zones=tuple(message.zones),
        proven=message.proven,
        inside=message.inside_count,
        outside=message.outside_count,
        without_policy=message.without_policy_count,
        left=tuple(left),
        unproved=_unproved(message.unproved),
    )


def _unproved(gaps: Iterable[messages.UnprovedTime]) -> tuple[UnprovedRow, ...]:
    return tuple(
        UnprovedRow(
            plane=gap.plane, since=_time(gap.since), until=_time(gap.until), reason=gap.reason
        )
        for gap in gaps
    )


def _time(message: Any) -> datetime:
    moment: datetime = message.ToDatetime(tzinfo=UTC)
    return moment
