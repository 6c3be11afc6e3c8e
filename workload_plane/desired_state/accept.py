"""Whether an offered desired state may replace the held one: PURE, called by the link's client.

Absence of information is never an instruction: what is to go must be said, by a tombstone or by
an envelope of zero. Whatever is refused is answered with a Nack and the old state goes on.
"""

from collections.abc import Collection
from dataclasses import dataclass

from skerry.fleet.desired import FEATURES, DesiredState
from skerry.fleet.generation import Version, may_replace

# A push that silently forgets more than this part of what it granted before is a damaged
# snapshot of the sender's, not a decision (an emptied DNS record once took a region this way).
SHRINK_FRACTION_MAX = 0.5
NAMES_SHOWN_MAX = 5  # in a refusal; the whole list is the sender's own

Grant = tuple[str, str]  # deployment, pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """The offered state may be stored and run; `changed` is False for a repeat of the held one."""

    changed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The offered state is not to be used, and why, for the Nack.

    `may_pass`: nothing is wrong with it, and this plane may be able to take it up later.
    """

    reason: str
    may_pass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a decision needs of the plane: the state in force, the highest version ever stored,
    and which (deployment, pool) have live replicas."""

    plane: str
    state: DesiredState | None
    seen: Version
    running: frozenset[Grant] = frozenset()


def decide(
    offered: DesiredState, held: Held, features: Collection[str] = FEATURES
) -> Accept | Refuse:
    """Return whether the offered state is accepted, or the first rule that it breaks."""
    rules = (_other_plane, _older, _rewritten, _repeats, _forgets_running, _shrinks)
    for rule in rules:
        reason = rule(offered, held)
        if reason is not None:
            return Refuse(reason=reason)
    unknown = sorted(set(offered.required_features) - set(features))
    if unknown:
        return Refuse(reason=f"required features not known here: {_some(unknown)}; upgrade me")
    return Accept(changed=offered != held.state)


def _other_plane(offered: DesiredState, held: Held) -> str | None:
    if offered.plane != held.plane:
        return f"it is for plane {offered.plane!r}, this is {held.plane!r}"
    return None


def _older(offered: DesiredState, held: Held) -> str | None:
    if not may_replace(offered.version, held.seen):
        return f"version {offered.version} is older than {held.seen}, which this plane has seen"
    return None


def _rewritten(offered: DesiredState, held: Held) -> str | None:
    if held.state is None or offered.version != held.state.version or offered == held.state:
        return None
    return f"version {offered.version} was sent before with another content; raise the generation"


def _repeats(offered: DesiredState, held: Held) -> str | None:
    del held
    names = [a.deployment.name for a in offered.assignments]
    twice = {name for name in names if names.count(name) > 1}
    for assignment in offered.assignments:
        pools = [envelope.pool for envelope in assignment.envelopes]
        if len(set(pools)) != len(pools):
            twice.add(assignment.deployment.name)
    return f"it names {_some(sorted(twice))} twice" if twice else None


def _forgets_running(offered: DesiredState, held: Held) -> str | None:
    said = _said(offered)
    gone = {name for name, pool in held.running if name not in {d for d, _ in said}}
    if gone:
        return (
            f"replicas of {_some(sorted(gone))} run here and the offered state does not name"
            " them; send a tombstone"
        )
    tombstones = _tombstones(offered)
    pools = sorted(
        f"{name} on {pool}"
        for name, pool in held.running
        if name not in tombstones and (name, pool) not in said
    )
    if pools:
        return (
            f"replicas of {_some(pools)} run here and the offered state grants no envelope there;"
            " send an envelope of 0"
        )
    return None


def _shrinks(offered: DesiredState, held: Held) -> str | None:
    if held.state is None:
        return None
    before = _targets(held.state)
    said, tombstones = _said(offered), _tombstones(offered)
    forgotten = sum(
        target
        for grant, target in before.items()
        if grant not in said and grant[0] not in tombstones
    )
    total = sum(before.values())
    if forgotten > total * SHRINK_FRACTION_MAX:
        return (
            f"it forgets {forgotten} of {total} granted replicas without saying that they go;"
            " send tombstones or envelopes of 0"
        )
    return None


def _said(state: DesiredState) -> frozenset[Grant]:
    # A deployment without envelopes is still named: pool "" stands for that.
    named = {(a.deployment.name, "") for a in state.assignments}
    granted = {(a.deployment.name, e.pool) for a in state.assignments for e in a.envelopes}
    return frozenset(named | granted)


def _tombstones(state: DesiredState) -> frozenset[str]:
    return frozenset(a.deployment.name for a in state.assignments if a.tombstone)


def _targets(state: DesiredState) -> dict[Grant, int]:
    return {
        (a.deployment.name, e.pool): e.target
        for a in state.assignments
        for e in a.envelopes
        if not a.tombstone
    }


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    more = len(names) - NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
