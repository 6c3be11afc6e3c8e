"""Updates of some fields of a deployment or pool: what was asked, and what it makes of the rest.

`operator_service.py` hands both to the store, which merges them where it writes: what others say
of other fields meanwhile is kept.
"""

from collections.abc import Callable

from control_plane.api import convert, validation
from control_plane.api.ports import EngineCheck
from control_plane.store.deployments import AskedUpdate, Creation
from control_plane.store.pools import AskedTerms
from control_plane.store.snapshot import StoreSnapshot
from skerry.api.common.v1 import deployment_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.deployment import Deployment
from skerry.fleet.pool import PoolTerms
from skerry.wire.deployments import deployment_to_proto


def asked_of(request: pb.UpdateDeploymentRequest) -> AskedUpdate:
    """Return what a masked update asks for; InvalidInput where its mask or a name is wrong."""
    told, mask = request.deployment, request.update_mask
    _, name = validation.check_owned_name(told.name, "deployments")
    spec = validation.named_spec(told.spec, name)
    validation.masked_spec(deployment_pb2.DeploymentSpec(), spec, mask)
    body = spec.SerializeToString(deterministic=True).hex()
    return AskedUpdate(
        name=name,
        text=" ".join((body, *mask.paths)),
        etag=validation.check_opaque(told.etag, "etag"),
        creation=Creation.ALLOWED if request.allow_missing else Creation.NEVER,
    )


def merging(
    request: pb.UpdateDeploymentRequest,
    project: str,
    store: StoreSnapshot,
    check_engine: EngineCheck,
) -> Callable[[Deployment | None], Deployment]:
    """Return what makes the wanted deployment of the held one, or of none: over the defaults."""
    told = request.deployment
    _, name = validation.check_owned_name(told.name, "deployments")
    named = validation.named_spec(told.spec, name)

    def merge(held: Deployment | None) -> Deployment:
        before = validation.default_spec(name) if held is None else deployment_to_proto(held)
        spec = validation.masked_spec(before, named, request.update_mask)
        return validation.deployment_of(spec, project, store, check_engine)

    return merge


def asked_terms(request: pb.UpdatePoolRequest, pool: str) -> AskedTerms:
    """Return what a masked update of a pool's terms asks for; InvalidInput where it is wrong."""
    merging_terms(request)(PoolTerms())
    body = request.terms.SerializeToString(deterministic=True).hex()
    return AskedTerms(
        pool=pool,
        text=" ".join((body, *request.update_mask.paths)),
        etag=validation.check_opaque(request.etag, "etag"),
    )


def merging_terms(request: pb.UpdatePoolRequest) -> Callable[[PoolTerms], PoolTerms]:
    """Return what makes the wanted terms of those that are held."""

    def merge(held: PoolTerms) -> PoolTerms:
        before = convert.terms_to_proto(held)
        return validation.terms_of(
            validation.masked_terms(before, request.terms, request.update_mask)
        )

    return merge
