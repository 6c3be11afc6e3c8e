"""Deployments and the change log against a model, by any order of calls, on both databases."""

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from control_plane.store.audit import verify_changes
from control_plane.store.changes import last_sequence, list_changes
from control_plane.store.deployments import (
    Creation,
    apply_deployment,
    list_deployments,
    mark_deleting,
    remove_deployment,
    rollback_deployment,
)
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from skerry.fleet.deployment import BaseModel, Deployment, Scaling
from skerry.plumbing.errors import (
    AlreadyExists,
    Conflict,
    Infeasible,
    InvalidInput,
    NotFound,
    SkerryError,
)
from tests.builders import a_deployment

NAMES = ("a", "b", "c")
EXAMPLES, STEPS = 12, 25
_serial = itertools.count(1)

names = st.sampled_from(NAMES)
replicas = st.integers(1, 4)
weights = st.sampled_from(("one", "two"))
etags = st.sampled_from(("any", "present", "stale"))
request_ids = st.sampled_from(("", "", "first", "second"))


class Operators(RuleBasedStateMachine):
    """What operators may do, each step beside what a model says becomes of it."""

    def __init__(self, database: Database, write: WriteContext) -> None:
        super().__init__()
        self.database = database
        self.write = write
        self.prefix = f"m{next(_serial)}"
        # name -> (replicas, weights, etag, deleting)
        self.model: dict[str, tuple[int, str, str, bool]] = {}
        self.answers: dict[str, tuple[Any, Any]] = {}
        with database.read() as session:
            self.seen = last_sequence(session)
        self.expected = self.seen

    def wanted(self, name: str, count: int, uri: str) -> Deployment:
        deployment = a_deployment(f"{self.prefix}-{name}")
        model = BaseModel(uri=f"builtin://{uri}", served_name=deployment.name)
        return replace(
            deployment,
            revision=replace(deployment.revision, base_model=model),
            scaling=Scaling(min_replicas=count, max_replicas=count),
        )

    def etag(self, name: str, kind: str) -> str:
        present = self.model[name][2] if name in self.model else ""
        return {"any": "", "present": present, "stale": "stale"}[kind]

    def called(self, request_id: str, call: tuple[Any, ...]) -> str:
        """Say what a request_id makes of a call: new, repeated, or another's."""
        if not request_id or request_id not in self.answers:
            return "new"
        return "repeated" if self.answers[request_id][0] == call else "foreign"

    @rule(
        name=names,
        count=replicas,
        uri=weights,
        kind=etags,
        creation=st.sampled_from(Creation),
        request_id=request_ids,
    )
    def apply(
        self, name: str, count: int, uri: str, kind: str, creation: Creation, request_id: str
    ) -> None:
        etag = self.etag(name, kind)
        held = self.model.get(name)
        call = ("apply", name, count, uri, etag, creation)
        fate = self.called(request_id, call)
        numbered = f"{self.prefix}-{request_id}" if request_id else ""
        wanted = self.wanted(name, count, uri)
        error: type[SkerryError] | None = None
        if fate == "foreign":
            error = InvalidInput
        elif fate == "new":
            if creation is Creation.ONLY and held:
                error = AlreadyExists
            elif creation is Creation.NEVER and not held:
                error = NotFound
            elif etag and (held is None or held[2] != etag):
                error = Conflict
            elif held and held[3]:
                error = Infeasible
        if error is not None:
            with pytest.raises(error), self.database.write() as session:
                apply_deployment(session, self.write, wanted, etag, numbered, creation)
            return
        with self.database.write() as session:
            done = apply_deployment(session, self.write, wanted, etag, numbered, creation)
        if fate == "repeated":
            assert done == self.answers[request_id][1]
            return
        if request_id:
            self.answers[request_id] = (call, done)
        if held is None or held[:2] != (count, uri):
            self.expected += 1
            assert held is None or done.stored.etag != held[2]
        else:
            assert done.stored.etag == held[2]
        self.model[name] = (count, uri, done.stored.etag, False)

    @rule(name=names, kind=etags)
    def delete(self, name: str, kind: str) -> None:
        etag, held = self.etag(name, kind), self.model.get(name)
        try:
            with self.database.write() as session:
                marked = mark_deleting(session, self.write, f"{self.prefix}-{name}", etag, "")
        except NotFound:
            assert held is None
            return
        except Conflict:
            assert held is not None
            assert etag not in ("", held[2])
            return
        assert held is not None
        if not held[3]:
            self.expected += 1
        self.model[name] = (held[0], held[1], marked.etag, True)

    @rule(name=names)
    def remove(self, name: str) -> None:
        held = self.model.get(name)
        try:
            with self.database.write() as session:
                gone = remove_deployment(session, self.write, f"{self.prefix}-{name}")
        except Infeasible:
            assert held is not None
            assert not held[3]
            return
        assert gone is (held is not None)
        if held:
            self.expected += 1
            del self.model[name]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        held = self.model[name]
        try:
            with self.database.write() as session:
                stored = rollback_deployment(
                    session, self.write, f"{self.prefix}-{name}", 1, "", ""
                )
        except Infeasible:
            assert held[3]
            return
        except NotFound:
            return  # its first revision was of an earlier deployment of that name
        uri = stored.deployment.revision.base_model.uri.removeprefix("builtin://")
        if stored.etag != held[2]:
            self.expected += 1
        self.model[name] = (held[0], uri, stored.etag, False)

    @invariant()
    def the_store_is_the_model(self) -> None:
        with self.database.read() as session:
            found = {
                stored.deployment.name.removeprefix(f"{self.prefix}-"): (
                    stored.deployment.scaling.min_replicas,
                    stored.deployment.revision.base_model.uri.removeprefix("builtin://"),
                    stored.etag,
                    stored.deleting,
                )
                for stored in list_deployments(session)
                if stored.deployment.name.startswith(f"{self.prefix}-")
            }
        assert found == self.model

    @invariant()
    def who_watches_sees_every_change_once(self) -> None:
        with self.database.read() as session:
            found = [change.sequence for change in list_changes(session, self.seen, 1_000)]
            assert last_sequence(session) == self.expected
        assert found == list(range(self.seen + 1, self.expected + 1))
        self.seen = self.expected

    def teardown(self) -> None:
        with self.database.read() as session:
            assert verify_changes(session).fault == ""


def test_any_order_of_calls_does_what_the_model_says(
    database: Database, write: WriteContext
) -> None:
    make: Any = partial(Operators, database, write)
    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
