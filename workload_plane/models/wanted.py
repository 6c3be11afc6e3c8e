"""Which base models a plane needs, from its desired state: PURE. Absence is no instruction here
either: with nothing known of what is desired, nothing is fetched and nothing is given up."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from skerry.fleet.deployment import Revision
from skerry.fleet.desired import DesiredState
from skerry.fleet.engine import EngineName
from workload_plane.models.uris import is_remote


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedModel:
    """A base model to have here; `due`: a replica is to run on it now, not only later."""

    uri: str
    due: bool


def wanted_models(desired: DesiredState, override: EngineName | None) -> tuple[WantedModel, ...]:
    """Return the remote base models of all that may be started here, those that are due first."""
    wanted: dict[str, bool] = {}
    for assignment in desired.assignments:
        ceiling = max((envelope.ceiling for envelope in assignment.envelopes), default=0)
        if assignment.tombstone or ceiling <= 0:
            continue
        due = any(envelope.target > 0 for envelope in assignment.envelopes)
        for revision in assignment.revisions:
            for uri in model_uris(revision, override):
                wanted[uri] = wanted.get(uri, False) or due
    return tuple(
        WantedModel(uri=uri, due=due)
        for uri, due in sorted(wanted.items(), key=lambda item: (not item[1], item[0]))
    )


def model_uris(revision: Revision, override: EngineName | None) -> Iterator[str]:
    """Yield what a replica of the revision reads from elsewhere: base model, draft, adapters."""
    return (uri for uri in _read(revision, override) if is_remote(uri))


def local_uris(revision: Revision, override: EngineName | None) -> Iterator[str]:
    """Yield what a replica of the revision reads that is on this machine already."""
    return (uri for uri in _read(revision, override) if not is_remote(uri))


def wanted_locally(desired: DesiredState, override: EngineName | None) -> frozenset[str]:
    """Return what is on this machine already of all that may be started here."""
    return frozenset(
        uri
        for assignment in desired.assignments
        if not assignment.tombstone and any(one.ceiling > 0 for one in assignment.envelopes)
        for revision in assignment.revisions
        for uri in local_uris(revision, override)
    )


def _read(revision: Revision, override: EngineName | None) -> tuple[str, ...]:
    if override is not None and override is not revision.engine.name:
        # The override keeps no technique of the engine's.
        return () if override is EngineName.SIMULATED else (revision.base_model.uri,)
    if revision.engine.name is EngineName.SIMULATED:
        return ()
    speculative, lora = revision.engine.speculative, revision.engine.lora
    read = [revision.base_model.uri, speculative.draft_model_uri if speculative else None]
    read += [adapter.uri for adapter in lora.adapters] if lora else []
    return tuple(dict.fromkeys(uri for uri in read if uri is not None))


def choose_downloads(
    missing: Sequence[WantedModel], running: Iterable[str], downloads_max: int
) -> tuple[str, ...]:
    """Return which downloads run now: what is due before what is not, what has begun first."""
    begun = frozenset(running)
    ordered = sorted(missing, key=lambda one: (not one.due, one.uri not in begun, one.uri))
    return tuple(one.uri for one in ordered[:downloads_max])
