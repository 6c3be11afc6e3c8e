"""Who may call what: a line for each method, and denied where there is none."""

import pytest

from control_plane.api.access.decision import (
    Named,
    needs_credential,
    refusal_of,
)
from control_plane.api.access.matrix import KNOWN, MATRIX, OPEN
from control_plane.api.access.naming import named_in
from control_plane.api.serving import operator_services
from skerry.api.common.v1 import deployment_pb2
from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    operations_service_pb2,
    operator_service_pb2,
    price_pb2,
)
from skerry.fleet.access import Grant, Principal, Role
from skerry.plumbing.errors import Denied, InvalidInput, NotFound

METHODS = sorted(MATRIX)
API = "/skerry.api.operator.v1"
GET_PLANE, LIST_PLANES = f"{API}.OperatorService/GetPlane", f"{API}.OperatorService/ListPlanes"
HERE = Named(projects=frozenset({"default"}))


def of(*held: Grant) -> Principal:
    return Principal(actor="token:t", grants=held, credential="token:t")


def admin(*projects: str, planes: tuple[str, ...] = ()) -> Grant:
    return Grant(role=Role.ADMIN, projects=projects, planes=planes)


def test_every_method_of_the_api_has_a_line_and_every_line_a_method() -> None:
    services = operator_services()
    there = {f"/{s.full_name}/{m.name}" for s in services for m in s.methods}
    assert there == set(MATRIX)
    assert not there & (OPEN | KNOWN)


def test_a_method_without_a_line_is_closed_to_everybody() -> None:
    method = f"{API}.OperatorService/Invented"
    assert needs_credential(method)
    assert isinstance(refusal_of(of(admin("*")), method, HERE), Denied)


def test_planes_and_projects_are_found_wherever_a_request_names_them() -> None:
    move = operations_service_pb2.MoveReplicaRequest(
        name="projects/red/deployments/demo", from_pool="fra--cpu", to_pool="gcp-x--cpu"
    )
    assert named_in(move) == Named(projects=frozenset({"red"}), planes=frozenset({"fra", "gcp-x"}))
    node = operator_service_pb2.GetNodeRequest(name="projects/red/nodes/fra--cpu--1")
    assert named_in(node).planes == {"fra"}
    price = catalogue_service_pb2.SetPriceRequest(
        parent="projects/red", price=price_pb2.Price(pool="fra--cpu")
    )
    assert named_in(price) == Named(projects=frozenset({"red"}), planes=frozenset({"fra"}))
    spec = deployment_pb2.DeploymentSpec(name="demo", project="blue")
    apply = operator_service_pb2.ApplyRequest(parent="projects/red", specs=[spec])
    assert named_in(apply).projects == {"red", "blue"}


@pytest.mark.parametrize(
    ("grant", "method", "told", "kind"),
    [
        (admin("red"), LIST_PLANES, HERE, NotFound),
        (admin("red"), LIST_PLANES, Named(), InvalidInput),
        (admin("default", planes=("fra",)), LIST_PLANES, HERE, Denied),
        (admin("default", planes=("fra",)), GET_PLANE, HERE, NotFound),
        (
            admin("default", planes=("fra",)),
            GET_PLANE,
            Named(projects=HERE.projects, planes=frozenset({"gcp"})),
            NotFound,
        ),
    ],
)
def test_what_lies_elsewhere_is_not_there(
    grant: Grant, method: str, told: Named, kind: type[Exception]
) -> None:
    assert isinstance(refusal_of(of(grant), method, told), kind)


@pytest.mark.parametrize(
    "told",
    [
        {"role": Role.VIEWER, "projects": ()},
        {"role": Role.VIEWER, "projects": ("UPPER",)},
        {"role": Role.VIEWER, "projects": ("a",) * 101},
        {"role": Role.PLANE, "projects": ("*",)},
        {"role": Role.PLANE, "projects": ("*",), "planes": ("*",)},
    ],
)
def test_a_grant_that_does_not_say_where_it_holds_is_none(told: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Grant(**told)  # type: ignore[arg-type]
