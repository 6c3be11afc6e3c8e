"""Placements by name, with the envelopes that planes are granted; made anew where they moved.

`views.py` keeps one beside each index of the store, `convert.py` makes messages of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from control_plane.store.snapshot import StoreSnapshot
from control_plane.store.values import StoredDesired
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.placement import Envelope, Placement
from skerry.plumbing import logs
from skerry.wire.deployments import envelope_from_proto

_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What is placed and granted; `told` has the envelopes of each plane, `decided` the decision.

    `placements`, by full name, are those decided and what planes are still granted beside them.
    """

    told: Mapping[str, tuple[Envelope, ...]]
    envelopes: Mapping[tuple[str, str], Envelope]
    decided: Mapping[str, Placement]
    placements: Mapping[str, Placement]


def index_granted(
    store: StoreSnapshot, before: StoreSnapshot | None = None, held: Granted | None = None
) -> Granted:
    """Return what is granted; parts that did not move since `before` are those of `held`."""
    if before is None or held is None:
        told = {plane: _envelopes(state) for plane, state in store.desired.items()}
        return _joined(told, _by_name(store), _owners(store))
    still = store.desired is before.desired and store.placements is before.placements
    if still and store.deployments is before.deployments:
        return held
    told = {
        plane: held.told[plane] if before.desired.get(plane) is state else _envelopes(state)
        for plane, state in store.desired.items()
    }
    owners = _owners(store)
    same = store.placements is before.placements and owners == _owners(before)
    return _joined(told, held.decided if same else _by_name(store), owners)


def placement_name(project: str, deployment: str, pool: str) -> str:
    """Return a placement's full name, in the project of its deployment."""
    return full_name(project, "placements", f"{deployment}--{pool}")


def _envelopes(state: StoredDesired) -> tuple[Envelope, ...]:
    if state.envelopes is not None:
        return state.envelopes
    # None are kept beside it: it tells none, or the release that stored it kept none.
    try:
        told = plane_service_pb2.Desired.FromString(state.payload)
        assignments = told.assignments
        return tuple(envelope_from_proto(e) for one in assignments for e in one.envelopes)
    except (DecodeError, ValueError) as error:
        # What the loop says of it is heard; other planes' placements are answered meanwhile.
        _log.warning("desired.unreadable", version=state.version, error=str(error))
        return ()


def _owners(store: StoreSnapshot) -> Mapping[str, str]:
    """Return whose each deployment is that is not the fleet's own project's."""
    deployments = (stored.deployment for stored in store.deployments)
    return {one.name: one.project for one in deployments if one.project != DEFAULT_PROJECT}


def _by_name(store: StoreSnapshot) -> Mapping[str, Placement]:
    owners = _owners(store)
    return {
        placement_name(owners.get(one.deployment, DEFAULT_PROJECT), one.deployment, one.pool): one
        for one in store.placements
    }


def _joined(
    told: Mapping[str, tuple[Envelope, ...]],
    decided: Mapping[str, Placement],
    owners: Mapping[str, str],
) -> Granted:
    envelopes = {(one.deployment, one.pool): one for of in told.values() for one in of}
    named = {(one.deployment, one.pool) for one in decided.values()}
    moving = {
        placement_name(owners.get(key[0], DEFAULT_PROJECT), *key): Placement(
            deployment=key[0], pool=key[1], count=0, reason="being drained"
        )
        for key, envelope in envelopes.items()
        if envelope.ceiling > 0 and key not in named
    }
    placements = {**decided, **moving} if moving else decided
    return Granted(told=told, envelopes=envelopes, decided=decided, placements=placements)
