"""What was mended after a schedule that is kept found it, each mend taken out again.

Most are the product's; where a checker was unfair, the mend is the checker's.

A schedule proves something only if it breaks without its mend: its file names one of these. When
one finds nothing any more, `python -m tests.simulation.mends FILE MEND [KIND...]` keeps another.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_plane.autoscale import rounds
from control_plane.link.registry import Registry
from control_plane.reconcile import envelopes, holding, plan, problem, rollout
from control_plane.reconcile.leftovers import strays
from control_plane.reconcile.snapshot import Snapshot
from tests.simulation.checkers import I10EnvelopesBound
from tests.simulation.control import forget
from tests.simulation.plane import SimPlane
from tests.simulation.run import keep, replay, run
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.offers import Offers

SEEDS_MAX = 400
Patch = pytest.MonkeyPatch


def _refused_for_good(patch: Patch) -> None:
    """A push that found a full disk is never looked at again."""
    whole = Offers.answered

    def answered(offers: Offers[Any], refused: Refuse | None, now: float) -> bool:
        final = replace(refused, may_pass=False) if refused is not None else None
        return whole(offers, final, now)

    patch.setattr(Offers, "answered", answered)


def _rivals_meet(patch: Patch) -> None:
    """A deployment starts beside one that is still to leave its plane."""
    patch.setattr(holding.Holding, "must_wait", lambda self, key: False)


def _nothing_stays(patch: Patch) -> None:
    """What serves ends though its deployment is short of replicas."""
    patch.setattr(holding.Holding, "stays", lambda *_: 0)


def _leftovers_unnamed(patch: Patch) -> None:
    """A plane that runs what was removed is told nothing of it."""
    patch.setattr(plan, "tombstones", lambda snapshot: {})
    patch.setattr(envelopes, "strays", lambda snapshot, known: {})


def _moments_to_come(patch: Patch) -> None:
    """A moment that another clock stored is waited for."""
    patch.setattr(rollout, "_not_ahead", lambda before, now: before)


def _strays_refused(patch: Patch) -> None:
    """What runs where nobody knows of it is named once it is to go, and not before."""
    whole = envelopes.grant_envelopes

    def grant(snapshot: Snapshot, conditions: Mapping[str, Any]) -> Any:
        granted = whole(snapshot, conditions)
        known = {(e.deployment, e.pool) for e in snapshot.envelopes}
        left = strays(snapshot, envelopes.granted_now(snapshot).keys() | known)
        return {key: one for key, one in granted.items() if key not in left or one.ceiling == 0}

    patch.setattr(plan, "grant_envelopes", grant)


def _nodes_known_at_once(patch: Patch) -> None:
    """A node that comes back is one that every decision stored from then on must know of."""
    patch.setattr(SimPlane, "nodes_since", lambda plane, moment: list(plane.nodes))


def _given_up_moves(patch: Patch) -> None:
    """What gives way starts on a plane that is back, whether a move is left or not."""
    patch.setattr(problem, "_given_up", lambda *_: Counter())


def _told_is_known(patch: Patch) -> None:
    """What a plane is told counts from then on, also by a database that forgot it."""
    patch.setattr(I10EnvelopesBound, "_is_forgotten", lambda self, plane: False)


def _nothing_gives_way(patch: Patch) -> None:
    """What is to go stays until it is replaced, however many more there are than are wanted."""
    patch.setattr(holding.Holding, "give_way", lambda *_: None)


def _older_streams_heard(patch: Patch) -> None:
    """What an older stream of a plane brings late takes the place of the newer one's word."""
    patch.setattr(Registry, "is_of", lambda *_: True)


def _nobody_helps(patch: Patch) -> None:
    """By concurrency each plane runs what its own users ask for, whoever else is full."""
    patch.setattr(rounds, "helped", lambda *_: ())


UNMENDED: dict[str, Callable[[Patch], None]] = {
    "a push refused for a full disk is never looked at again": _refused_for_good,
    "a deployment starts beside one that it avoids": _rivals_meet,
    "what serves ends while its deployment is short": _nothing_stays,
    "what was removed is not named where it runs": _leftovers_unnamed,
    "a moment that is to come is waited for": _moments_to_come,
    "what runs unknown is not named until it goes": _strays_refused,
    "a node that comes back is known at once": _nodes_known_at_once,
    "what gives way moves to a plane that is back": _given_up_moves,
    "what a plane was told is known to every database": _told_is_known,
    "what is beyond all that is wanted gives way to nobody": _nothing_gives_way,
    "what an older stream brings late is taken in": _older_streams_heard,
    "what a full plane lacks by concurrency runs nowhere": _nobody_helps,
}


def main(name: str, mend: str, *kinds: str) -> int:
    """Keep the first of 400 seeds that breaks without the mend, and with it does not."""
    for seed in range(1, SEEDS_MAX + 1):
        with Patch.context() as patch:
            UNMENDED[mend](patch)
            forget()
            broken = run(seed, kinds)
        forget()
        if broken.broken and not replay(broken.schedule).broken:
            print(f"seed {seed}: {broken.broken}\n{keep(broken, name, broken.broken, mend)}")
            return 0
    print(f"nothing breaks without it within {SEEDS_MAX} seeds; try other kinds of faults")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
