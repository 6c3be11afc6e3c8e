"""The matrix: for each method of the operator port the least role, and where a grant must hold.

A line a method; what has no line is denied to everybody. A test reads the services' definitions
and fails for a method that is missing here, and for a line that is no method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from skerry.fleet.access import Role

PACKAGE = "skerry.api.operator.v1"


class Scope(Enum):
    """What a method acts on."""

    PROJECT = "project"  # the whole of a project: not for grants of some planes only
    FLEET = "fleet"  # all projects together: for grants of every one alone
    OWN = "own"  # whatever the caller's grants reach: the method answers no more than that
    PLANE = "plane"  # a plane, or a pool or node of one, that the request names


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who may call a method, at least, and what it acts on."""

    role: Role
    scope: Scope


# Open to everybody: load balancers ask, and it says no more than that a port's closing would.
OPEN = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
# For everybody who showed a credential, whatever it is for: it shows definitions, not the fleet.
KNOWN = frozenset({"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"})

_MATRIX = """
OperatorService/ListPlanes                viewer    project
OperatorService/GetPlane                  plane     plane
OperatorService/ExplainPlane              plane     plane
OperatorService/ListPools                 viewer    project
OperatorService/GetPool                   plane     plane
OperatorService/UpdatePool                operator  plane
OperatorService/ListNodes                 viewer    project
OperatorService/GetNode                   plane     plane
OperatorService/ListDeployments           viewer    project
OperatorService/GetDeployment             viewer    project
OperatorService/ApplyDeployment           operator  project
OperatorService/Apply                     operator  project
OperatorService/CreateDeployment          operator  project
OperatorService/UpdateDeployment          operator  project
OperatorService/ExplainScaling            viewer    project
OperatorService/DeleteDeployment          operator  project
OperatorService/ListRevisions             viewer    project
OperatorService/GetRevision               viewer    project
OperatorService/RollbackDeployment        operator  project
OperatorService/PlanDeployment            viewer    project
OperatorService/GetPlan                   viewer    project
OperatorService/ListPlans                 viewer    project
OperatorService/ApprovePlan               operator  project
OperatorService/RejectPlan                operator  project
OperatorService/Explain                   viewer    project
OperatorService/WhatIf                    viewer    project
OperatorService/Survive                   viewer    project
OperatorService/ListPlacements            viewer    project
OperatorService/GetPlacement              viewer    project
OperatorService/ListReplicas              viewer    project
OperatorService/GetReplica                viewer    project
OperatorService/ListChanges               viewer    project
OperatorService/GetChange                 viewer    project
OperatorService/WatchChanges              viewer    project
OperatorService/VerifyChanges             auditor   project
OperatorService/ListChangeRecords         auditor   project
OperatorService/GetResidencyProof         auditor   project
OperatorService/ListControlPlanes         viewer    project
OperationsService/Drain                   operator  plane
OperationsService/Failover                operator  plane
OperationsService/MoveReplica             operator  project
OperationsService/ListRollouts            viewer    project
OperationsService/GetRollout              viewer    project
OperationsService/SteerRollout            operator  project
OperationsService/RecordDrill             operator  project
OperationsService/ListServiceLevels       viewer    project
RecoveryService/GetRecovery               viewer    project
RecoveryService/ApproveRecovery           admin     project
CatalogueService/ListAcceleratorKinds     viewer    project
CatalogueService/GetAcceleratorKind       viewer    project
CatalogueService/CreateAcceleratorKind    operator  project
CatalogueService/UpdateAcceleratorKind    operator  project
CatalogueService/DeleteAcceleratorKind    operator  project
CatalogueService/ListBaseModels           viewer    project
CatalogueService/GetBaseModel             viewer    project
CatalogueService/CreateBaseModel          operator  project
CatalogueService/UpdateBaseModel          operator  project
CatalogueService/DeleteBaseModel          operator  project
CatalogueService/ListReservations         viewer    project
CatalogueService/GetReservation           viewer    project
CatalogueService/CreateReservation        operator  project
CatalogueService/UpdateReservation        operator  project
CatalogueService/DeleteReservation        operator  project
CatalogueService/ListClouds               viewer    project
CatalogueService/GetCloud                 viewer    project
CatalogueService/CreateCloud              operator  project
CatalogueService/UpdateCloud              operator  project
CatalogueService/DeleteCloud              operator  project
CatalogueService/ListRegions              viewer    project
CatalogueService/GetRegion                viewer    project
CatalogueService/CreateRegion             operator  project
CatalogueService/UpdateRegion             operator  project
CatalogueService/DeleteRegion             operator  project
CatalogueService/ListProfiles             viewer    project
CatalogueService/GetProfile               viewer    project
CatalogueService/CreateProfile            operator  project
CatalogueService/UpdateProfile            operator  project
CatalogueService/DeleteProfile            operator  project
CatalogueService/ListPrices               viewer    project
CatalogueService/SetPrice                 operator  plane
CatalogueService/DeletePrice              operator  plane
CatalogueService/ListCordons              viewer    project
CatalogueService/Cordon                   operator  plane
CatalogueService/Uncordon                 operator  plane
AccessService/ListServiceTokens           auditor   project
AccessService/CreateServiceToken          admin     project
AccessService/RevokeServiceToken          admin     project
KeyService/ListApiKeys                    viewer    project
KeyService/CreateApiKey                   admin     project
KeyService/RevokeApiKey                   admin     project
JoiningService/ListPlaneInvites           auditor   project
JoiningService/CreatePlaneInvite          admin     project
JoiningService/DeletePlaneInvite          admin     project
JoiningService/ListPlaneIdentities        auditor   project
JoiningService/RevokePlane                admin     plane
ProjectService/ListProjects               viewer    own
ProjectService/GetProject                 viewer    project
ProjectService/CreateProject              admin     fleet
ProjectService/DeleteProject              admin     fleet
"""


def _entries(text: str) -> Mapping[str, Entry]:
    entries: dict[str, Entry] = {}
    for line in text.split("\n"):
        if not line:
            continue
        method, role, scope = line.split()
        path = f"/{PACKAGE}.{method}"
        assert path not in entries, f"{method} has two lines"
        entries[path] = Entry(role=Role(role), scope=Scope(scope))
    return MappingProxyType(entries)


MATRIX = _entries(_MATRIX)
