"""The simulated database and the product's as one port, for tests/contract/test_sim_store.py.

Each does what the simulation's control planes and operators ask of a store.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import insert

from control_plane.leading.term import TERM_SECONDS
from control_plane.store import deployments, leadership, tables
from control_plane.store.changes import list_changes
from control_plane.store.cordons import set_cordon
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.planes import declare_lost
from control_plane.store.requests import Asked
from control_plane.store.rollouts import Steer, steer_rollout
from skerry.fleet.cordon import Cordon, CordonState, Part, Scope
from skerry.fleet.deployment import Deployment
from tests.builders import T0
from tests.simulation.store import SimStore
from tests.simulation.timeline import Timeline

# Kinds of changes that the simulation's checkers go by, whole or by their first word.
WATCHED = frozenset(
    {
        "deployment.removed",
        "desired",
        "fleet",
        "placements",
        "plane",
        "recovery",
        "rollout",
        "scaling",
    }
)
Write = Callable[..., Any]


class Store(Protocol):
    """What both stores are asked for here."""

    def run(self, function: Write, *args: Any) -> Any:
        """Do what a function of the store does, in one transaction."""

    def hold(self, holder: str, epoch: int = 0) -> int | None:
        """Renew an epoch's leadership, or with 0 take it; None while another one leads."""

    def lapse(self) -> None:
        """Let the leader's term end without a renewal."""

    def kinds(self) -> list[str]:
        """Return the kinds of the changes in the log, of those that are watched."""

    def apply(self, write: WriteContext, wanted: Deployment, request_id: str = "") -> int:
        """Have an operator apply a deployment; return the number of its revision."""

    def delete(self, write: WriteContext, name: str) -> None:
        """Have an operator mark a deployment for its end."""

    def drain(self, write: WriteContext, plane: str) -> None:
        """Have an operator drain a plane."""

    def fail_over(self, write: WriteContext, plane: str, request_id: str) -> bool:
        """Have an operator declare a plane lost; False for a repeated call."""

    def resume(self, write: WriteContext, name: str) -> None:
        """Have an operator resume a rollout."""

    def mark_restored(self, reason: str) -> None:
        """Put an older copy in its place, marked so: here the same."""


class Simulated:
    """The simulation's store, asked as its `StoreDoor` and its operators ask it."""

    def __init__(self) -> None:
        self.timeline = Timeline(1)
        self.store = SimStore(self.timeline)

    def run(self, function: Write, *args: Any) -> Any:
        return getattr(self.store, function.__name__)(*args)

    def hold(self, holder: str, epoch: int = 0) -> int | None:
        return self.store.hold_leadership(holder, epoch)

    def lapse(self) -> None:
        self.timeline.now += TERM_SECONDS

    def kinds(self) -> list[str]:
        return _watched(entry.kind for entry in self.store.journal)

    def apply(self, write: WriteContext, wanted: Deployment, request_id: str = "") -> int:
        name, rows = wanted.name, self.store.rows
        held = rows.deployments.get(name)
        number = held.deployment.revision.number if held else self.store.numbered(name)
        if held and replace(wanted.revision, number=number) != held.deployment.revision:
            number = self.store.numbered(name)
        numbered = replace(wanted, revision=replace(wanted.revision, number=number))
        asked = Asked(request_id=request_id, kind="apply", body=repr(wanted))
        self.store.operate(write, asked, lambda: self.store.put_deployment(numbered))
        return rows.deployments[name].deployment.revision.number

    def delete(self, write: WriteContext, name: str) -> None:
        held = self.store.rows.deployments[name].deployment
        self.store.put_deployment(held, deleting=True)

    def drain(self, write: WriteContext, plane: str) -> None:
        part = Part(scope=Scope.PLANE, name=plane)
        cordon = Cordon(part=part, actor=write.actor, reason="", since=write.now, draining=True)
        self.store.rows.cordons[plane] = cordon
        self.store.touch()

    def fail_over(self, write: WriteContext, plane: str, request_id: str) -> bool:
        asked = Asked(request_id=request_id, kind="failover", body=plane)
        return self.store.operate(write, asked, lambda: self.store.declare_lost(write, plane))

    def resume(self, write: WriteContext, name: str) -> None:
        self.store.resume_rollout(write, name)

    def mark_restored(self, reason: str) -> None:
        self.store.rows.restored = reason


class Real:
    """The product's store on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def run(self, function: Write, *args: Any) -> Any:
        with self._database.write() as session:
            return function(session, *args)

    def hold(self, holder: str, epoch: int = 0) -> int | None:
        if not epoch:
            told = leadership.Addresses()
            with self._database.write() as session:
                return leadership.acquire(session, holder, told, T0, seconds=60.0)
        leading: int = self._renewed(epoch, 60.0)
        return epoch if leading == epoch else None

    def _renewed(self, epoch: int, seconds: float) -> int:
        with self._database.write() as session:
            return leadership.renew(session, epoch, seconds=seconds)

    def lapse(self) -> None:
        self._renewed(self.run(leadership.leading_epoch), 0.0)

    def kinds(self) -> list[str]:
        return _watched(change.kind for change in self.run(list_changes, 0, 1_000))

    def apply(self, write: WriteContext, wanted: Deployment, request_id: str = "") -> int:
        done = self.run(deployments.apply_deployment, write, wanted, "", request_id)
        return int(done.stored.deployment.revision.number)

    def delete(self, write: WriteContext, name: str) -> None:
        self.run(deployments.mark_deleting, write, name, "", "")

    def drain(self, write: WriteContext, plane: str) -> None:
        part = Part(scope=Scope.PLANE, name=plane)
        self.run(set_cordon, write, part, CordonState.DRAINING, "")

    def fail_over(self, write: WriteContext, plane: str, request_id: str) -> bool:
        asked = Asked(request_id=request_id, kind="failover", body=plane)
        return bool(self.run(declare_lost, write, (plane,), asked))

    def resume(self, write: WriteContext, name: str) -> None:
        self.run(steer_rollout, write, name, Steer.RESUME, "")

    def mark_restored(self, reason: str) -> None:
        row = insert(tables.recovery).values(id=1, since=T0, reason=reason)
        with self._database.write() as session:
            session.execute(row)


def _watched(kinds: Iterable[str]) -> list[str]:
    return [kind for kind in kinds if kind in WATCHED or kind.partition(".")[0] in WATCHED]
