"""Fleets whose planes hold more than the database knows, as values."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from control_plane.link.convert import encode_desired
from control_plane.reconcile.snapshot import PlaneView
from control_plane.recovery.assess import Told
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import FEATURES, FEATURES_NEEDED, Assignment, DesiredState, PeerPlane
from skerry.fleet.generation import Version
from skerry.fleet.observation import ObservedReplica
from skerry.fleet.placement import Envelope
from tests.builders import a_plane_view, a_replica, a_report


def a_version(epoch: int = 4, generation: int = 9) -> Version:
    return Version(epoch=epoch, generation=generation)


def at_revision(deployment: Deployment, number: int) -> Deployment:
    return replace(deployment, revision=replace(deployment.revision, number=number))


def a_held_state(
    plane: str,
    *deployments: Deployment,
    version: Version | None = None,
    replicas: int = 1,
    peers: Iterable[str] = (),
    deleting: Iterable[str] = (),
) -> DesiredState:
    """What a plane was told last, `replicas` of each deployment on its one pool."""
    return DesiredState(
        plane=plane,
        version=version or a_version(),
        assignments=tuple(
            Assignment(
                deployment=one,
                envelopes=(an_envelope(one.name, plane, replicas),),
                tombstone=one.name in set(deleting),
            )
            for one in deployments
        ),
        peers=tuple(
            PeerPlane(plane=peer, cloud="c", region="r", peer_address="127.0.0.1:1")
            for peer in peers
        ),
        required_features=FEATURES_NEEDED,
    )


def an_envelope(deployment: str, plane: str, replicas: int) -> Envelope:
    return Envelope(
        deployment=deployment,
        pool=f"{plane}--cpu",
        floor=0,
        target=replicas,
        ceiling=max(replicas, 2),
    )


def told(state: DesiredState) -> Told:
    """A plane's answer with all that it holds."""
    payload, digest = encode_desired(state)
    return Told(plane=state.plane, state=state, payload=payload, digest=digest)


def holding(state: DesiredState, *running: ObservedReplica, **fields: Any) -> PlaneView:
    """A plane that reports what it holds; one replica of each deployment runs unless told."""
    replicas = running or tuple(
        a_replica(
            one.deployment.name,
            pool=f"{state.plane}--cpu",
            revision=one.deployment.revision.number,
            name=f"{one.deployment.name}-{state.plane}",
        )
        for one in state.assignments
    )
    report = a_report(
        state.plane, held=state.version, replicas=replicas, features=FEATURES, **fields
    )
    return a_plane_view(state.plane, report=report)
