"""Control planes as the operator API lists them; `operator_service.py` calls."""

from collections.abc import Mapping
from types import MappingProxyType

from control_plane.api.times import time_to_proto
from control_plane.store.control_planes import ControlPlaneRole, StoredControlPlane
from skerry.api.operator.v1 import control_plane_pb2
from skerry.fleet.names import DEFAULT_PROJECT, full_name

_ROLES: Mapping[ControlPlaneRole, control_plane_pb2.ControlPlane.Role] = MappingProxyType(
    {
        ControlPlaneRole.LEADING: control_plane_pb2.ControlPlane.ROLE_LEADING,
        ControlPlaneRole.STANDING_BY: control_plane_pb2.ControlPlane.ROLE_STANDING_BY,
        ControlPlaneRole.SILENT: control_plane_pb2.ControlPlane.ROLE_SILENT,
    }
)


def control_plane_to_proto(stored: StoredControlPlane) -> control_plane_pb2.ControlPlane:
    """Return a control plane as it is listed."""
    told = stored.told
    return control_plane_pb2.ControlPlane(
        name=full_name(DEFAULT_PROJECT, "control-planes", told.name),
        role=_ROLES[stored.role],
        epoch=told.epoch,
        address=told.addresses.operator,
        link_address=told.addresses.link,
        http_address=told.addresses.http,
        software=told.software,
        since=time_to_proto(stored.since),
        heard_at=time_to_proto(stored.heard_at),
    )
