"""A plane's desired state, fleet <-> protobuf, with the digest that Ack and disk refer to."""

import hashlib
from dataclasses import asdict, replace
from functools import lru_cache

from skerry.api.common.v1 import deployment_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import Assignment, Candidate, DesiredState, PeerPlane
from skerry.fleet.node import NodeCordon
from skerry.plumbing.errors import InvalidInput
from skerry.wire.api_keys import key_ring_from_proto, key_ring_to_proto
from skerry.wire.deployments import (
    deployment_from_proto,
    deployment_to_proto,
    envelope_from_proto,
    envelope_to_proto,
    revision_from_proto,
    revision_to_proto,
)
from skerry.wire.scaling import COEFFICIENT_FIELDS, terms_from_proto, terms_to_proto
from skerry.wire.supply import version_from_proto, version_to_proto


def desired_to_proto(desired: DesiredState) -> plane_service_pb2.Desired:
    """Return the message of a desired state, its digest filled in."""
    message = plane_service_pb2.Desired(
        plane=desired.plane,
        version=version_to_proto(desired.version),
        assignments=[_assignment_to_proto(assignment) for assignment in desired.assignments],
        peers=[_peer_to_proto(peer) for peer in desired.peers],
        required_features=desired.required_features,
        node_cordons=[_cordon_to_proto(cordon) for cordon in desired.node_cordons],
        planes=desired.planes,
        key_ring=None if desired.api_keys is None else key_ring_to_proto(desired.api_keys),
        revoked_planes=desired.revoked_planes,
        no_plane_revoked=desired.revoked_planes == (),
    )
    message.digest = proto_digest(message)
    return message


def desired_from_proto(message: plane_service_pb2.Desired) -> DesiredState:
    """Return the desired state; InvalidInput when the digest does not fit what was received."""
    if message.digest != proto_digest(message):
        raise InvalidInput("the desired state's digest does not fit its content; keep the old one")
    return DesiredState(
        plane=message.plane,
        version=version_from_proto(message.version),
        assignments=tuple(_assignment_from_proto(item) for item in message.assignments),
        peers=tuple(_peer_from_proto(peer) for peer in message.peers),
        required_features=tuple(message.required_features),
        node_cordons=tuple(
            NodeCordon(node=cordon.node, draining=cordon.draining)
            for cordon in message.node_cordons
        ),
        planes=message.planes,
        api_keys=key_ring_from_proto(message.key_ring) if message.HasField("key_ring") else None,
        revoked_planes=_revoked_from_proto(message),
    )


def _revoked_from_proto(message: plane_service_pb2.Desired) -> tuple[str, ...] | None:
    if message.revoked_planes or message.no_plane_revoked:
        return tuple(message.revoked_planes)
    return None


def digest_of(desired: DesiredState) -> bytes:
    """Return the SHA-256 of a desired state without its version: equal content, equal digest."""
    return desired_to_proto(desired).digest


def proto_digest(message: plane_service_pb2.Desired) -> bytes:
    """Return the SHA-256 of the message without version and digest, unknown fields included."""
    bare = plane_service_pb2.Desired()
    bare.CopyFrom(message)
    bare.ClearField("version")
    bare.ClearField("digest")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


def _assignment_to_proto(assignment: Assignment) -> plane_service_pb2.Assignment:
    deployment = deployment_to_proto(assignment.deployment)
    at_once = assignment.deployment.scaling.scale_down_delay_seconds == 0.0
    if at_once:
        deployment.scaling.ClearField("scale_down_delay_seconds")
    return plane_service_pb2.Assignment(
        deployment=deployment,
        envelopes=[envelope_to_proto(envelope) for envelope in assignment.envelopes],
        serving_planes=assignment.serving_planes,
        tombstone=assignment.tombstone,
        coefficients=[
            plane_service_pb2.Coefficients(**asdict(one)) for one in assignment.coefficients
        ],
        candidate=_candidate_to_proto(assignment.candidate),
        scaling=terms_to_proto(assignment.scaling),
        scales_down_at_once=at_once,
    )


def _assignment_from_proto(message: plane_service_pb2.Assignment) -> Assignment:
    deployment = _deployment(message.deployment.SerializeToString(deterministic=True))
    if message.scales_down_at_once:
        scaling = replace(deployment.scaling, scale_down_delay_seconds=0.0)
        deployment = replace(deployment, scaling=scaling)
    return Assignment(
        deployment=deployment,
        envelopes=tuple(envelope_from_proto(envelope) for envelope in message.envelopes),
        serving_planes=tuple(message.serving_planes),
        tombstone=message.tombstone,
        coefficients=tuple(
            Coefficients(**{name: getattr(one, name) for name in COEFFICIENT_FIELDS})
            for one in message.coefficients
        ),
        candidate=(
            _candidate_from_proto(message.candidate) if message.HasField("candidate") else None
        ),
        scaling=terms_from_proto(message.scaling) if message.HasField("scaling") else None,
    )


def _candidate_to_proto(candidate: Candidate | None) -> plane_service_pb2.Candidate | None:
    if candidate is None:
        return None
    return plane_service_pb2.Candidate(
        revision=revision_to_proto(candidate.revision),
        replicas=[
            plane_service_pb2.CandidateReplicas(pool=pool, count=count)
            for pool, count in candidate.replicas
        ],
    )


def _candidate_from_proto(message: plane_service_pb2.Candidate) -> Candidate:
    return Candidate(
        revision=revision_from_proto(message.revision),
        replicas=tuple((one.pool, one.count) for one in message.replicas),
    )


def _cordon_to_proto(cordon: NodeCordon) -> plane_service_pb2.NodeCordon:
    return plane_service_pb2.NodeCordon(node=cordon.node, draining=cordon.draining)


def _peer_to_proto(peer: PeerPlane) -> plane_service_pb2.PeerPlane:
    return plane_service_pb2.PeerPlane(
        plane=peer.plane,
        cloud=peer.cloud,
        region=peer.region,
        peer_address=peer.peer_address,
        residency_zones=peer.residency_zones,
    )


def _peer_from_proto(message: plane_service_pb2.PeerPlane) -> PeerPlane:
    return _peer(
        message.plane,
        message.cloud,
        message.region,
        message.peer_address,
        tuple(message.residency_zones),
    )


# A control plane holds what every plane was told: of 5,000 with 40 peers each that is 200,000
# values, all of them one of 5,000.
@lru_cache(maxsize=16_384)
def _peer(
    plane: str, cloud: str, region: str, peer_address: str, residency_zones: tuple[str, ...]
) -> PeerPlane:
    return PeerPlane(
        plane=plane,
        cloud=cloud,
        region=region,
        peer_address=peer_address,
        residency_zones=residency_zones,
    )


@lru_cache(maxsize=1_024)
def _deployment(spec: bytes) -> Deployment:
    return deployment_from_proto(deployment_pb2.DeploymentSpec.FromString(spec))
