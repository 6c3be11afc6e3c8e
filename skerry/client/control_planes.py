"""Control planes as the operator API lists them; `operator_methods` makes the clients' method."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from skerry.api.operator.v1 import control_plane_pb2, operator_service_pb2
from skerry.client.operator_calls import Call, Page, Which, page_call, page_fields


class ControlPlaneRole(StrEnum):
    """What a control plane is to its callers."""

    LEADING = "leading"
    STANDING_BY = "standing by"
    SILENT = "silent"
    UNKNOWN = "unknown"  # a newer server's


_ROLES = {
    control_plane_pb2.ControlPlane.ROLE_LEADING: ControlPlaneRole.LEADING,
    control_plane_pb2.ControlPlane.ROLE_STANDING_BY: ControlPlaneRole.STANDING_BY,
    control_plane_pb2.ControlPlane.ROLE_SILENT: ControlPlaneRole.SILENT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneRow:
    """A control plane: its role, since when, and where operators reach it."""

    name: str
    role: ControlPlaneRole
    epoch: int
    address: str
    link_address: str
    http_address: str
    software: str
    since: datetime
    heard_at: datetime


def list_control_planes(project: str, token: str, which: Which) -> Call[Page[ControlPlaneRow]]:
    """Return the call for a page of control planes."""
    fields = {**page_fields(project, token), **which.fields()}
    request = operator_service_pb2.ListControlPlanesRequest(**fields)
    return page_call("ListControlPlanes", request, "control_planes", _row)


def _row(message: control_plane_pb2.ControlPlane) -> ControlPlaneRow:
    return ControlPlaneRow(
        name=message.name.rpartition("/")[2],
        role=_ROLES.get(message.role, ControlPlaneRole.UNKNOWN),
        epoch=message.epoch,
        address=message.address,
        link_address=message.link_address,
        http_address=message.http_address,
        software=message.software,
        since=message.since.ToDatetime(tzinfo=UTC),
        heard_at=message.heard_at.ToDatetime(tzinfo=UTC),
    )
