"""Apply, Update, Delete and Watch of the API against a model, by any order, on both databases."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from control_plane.store.audit import verify_changes
from control_plane.store.changes import list_changes
from control_plane.store.deployments import remove_deployment
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.planes import record_report
from skerry.api.operator.v1 import deployment_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.plumbing.errors import Infeasible
from skerry.wire.deployments import deployment_to_proto
from tests.builders import a_deployment, a_report
from tests.store.api_server import serving

EXAMPLES, STEPS = 8, 20
PARENT = "projects/default"
# Of a watch: the server streams what is committed at once, and at the latest when it looks again.
SEEN_SECONDS_MAX = 20.0
_serial = itertools.count(1)

names = st.sampled_from(("a", "b", "c"))
numbers = st.integers(1, 4)
etags = st.sampled_from(("any", "present", "stale"))
request_ids = st.sampled_from(("", "", "", "first", "second"))
# What a mask may name, and which of the model's values that is.
MASKS = {
    ("spec.scaling.max_replicas",): ("most",),
    ("spec.policy.priority",): ("priority",),
    ("spec.scaling.max_replicas", "spec.policy.priority"): ("most", "priority"),
    (): ("most", "priority"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A deployment as the model has it."""

    most: int
    priority: int
    etag: str
    deleting: bool = False


class Watcher:
    """Reads a stream of changes on a thread of its own."""

    def __init__(self, stub: Any, after: int) -> None:
        self.sequences: list[int] = []
        self._grew = threading.Condition()
        request = pb.WatchChangesRequest(parent=PARENT, from_sequence=after)
        self._stream = stub.WatchChanges(request)
        self._thread = threading.Thread(target=self._read, name="watcher")
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self._stream:
                with self._grew:
                    self.sequences.append(message.change.sequence)
                    self._grew.notify_all()
        except grpc.RpcError:
            return  # cancelled at the end

    def wait_for(self, count: int) -> None:
        with self._grew:
            self._grew.wait_for(lambda: len(self.sequences) >= count, SEEN_SECONDS_MAX)

    def close(self) -> None:
        self._stream.cancel()
        self._thread.join()


class Callers(RuleBasedStateMachine):
    """What callers may do, each step beside what a model says becomes of it."""

    def __init__(self, database: Database, write: WriteContext, stub: Any) -> None:
        super().__init__()
        self.database, self.write, self.stub = database, write, stub
        self.prefix = f"m{next(_serial)}"
        self.model: dict[str, Held] = {}
        self.answers: dict[str, tuple[Any, bytes]] = {}
        with database.read() as session:
            changes = list_changes(session, 0, 100_000)
        self.began = changes[-1].sequence if changes else 0
        self.committed = 0
        self.watcher = Watcher(stub, self.began)

    def spec(self, name: str, most: int, priority: int) -> Any:
        deployment = a_deployment(f"{self.prefix}-{name}", replicas=1)
        scaling = replace(deployment.scaling, max_replicas=most)
        policy = replace(deployment.policy, priority=priority - 1)
        return deployment_to_proto(replace(deployment, scaling=scaling, policy=policy))

    def etag(self, name: str, kind: str) -> str:
        present = self.model[name].etag if name in self.model else ""
        return {"any": "", "present": present, "stale": "stale"}[kind]

    def call(
        self, method: Callable[..., Any], request: Any, request_id: str
    ) -> tuple[grpc.StatusCode, Any, bool]:
        """Make a call; return its code, its answer, and whether it was answered before."""
        if request_id:
            request.request_id = f"{self.prefix}-{request_id}"
        body = (method, request.SerializeToString(deterministic=True))
        known = self.answers.get(request_id) if request_id else None
        try:
            answer = method(request)
        except grpc.RpcError as error:
            code = error.code()
            if known is not None:
                assert (code is grpc.StatusCode.INVALID_ARGUMENT) == (known[0] != body)
            return code, None, known is not None
        if known is not None:
            assert known == (body, answer.SerializeToString(deterministic=True))
            return grpc.StatusCode.OK, answer, True
        if request_id:
            self.answers[request_id] = (body, answer.SerializeToString(deterministic=True))
        return grpc.StatusCode.OK, answer, False

    def expected(self, name: str, etag: str, *, may_create: bool) -> grpc.StatusCode:
        held = self.model.get(name)
        if held is None and not may_create:
            return grpc.StatusCode.NOT_FOUND
        if etag and (held is None or held.etag != etag):
            return grpc.StatusCode.ABORTED
        if held is not None and held.deleting:
            return grpc.StatusCode.FAILED_PRECONDITION
        return grpc.StatusCode.OK

    def keep(self, name: str, most: int, priority: int, etag: str) -> None:
        held = self.model.get(name)
        if held is None or (held.most, held.priority) != (most, priority):
            self.committed += 1
            assert held is None or held.etag != etag
        else:
            assert held.etag == etag
        self.model[name] = Held(most=most, priority=priority, etag=etag)

    @rule(
        wanted=st.dictionaries(names, st.tuples(numbers, numbers), min_size=1, max_size=3),
        kind=etags,
        request_id=request_ids,
    )
    def apply(self, wanted: dict[str, tuple[int, int]], kind: str, request_id: str) -> None:
        first = sorted(wanted)[0]
        etag = self.etag(first, kind)
        request = pb.ApplyRequest(
            parent=PARENT, specs=[self.spec(name, *wanted[name]) for name in sorted(wanted)]
        )
        if etag:
            request.etags[f"{self.prefix}-{first}"] = etag
        code, answer, again = self.call(self.stub.Apply, request, request_id)
        if again:
            return
        faults = {
            self.expected(name, etag if name == first else "", may_create=True) for name in wanted
        } - {grpc.StatusCode.OK}
        assert code in (faults or {grpc.StatusCode.OK}), "all of them, or none"
        if code is grpc.StatusCode.OK:
            for name, one in zip(sorted(wanted), answer.deployments, strict=True):
                self.keep(name, *wanted[name], one.deployment.etag)

    @rule(
        name=names,
        most=numbers,
        priority=numbers,
        mask=st.sampled_from(sorted(MASKS)),
        kind=etags,
        allow_missing=st.booleans(),
        request_id=request_ids,
    )
    def update(
        self,
        name: str,
        most: int,
        priority: int,
        mask: tuple[str, ...],
        kind: str,
        allow_missing: bool,
        request_id: str,
    ) -> None:
        etag, held = self.etag(name, kind), self.model.get(name)
        told = deployment_pb2.Deployment(
            name=f"{PARENT}/deployments/{self.prefix}-{name}",
            spec=self.spec(name, most, priority),
            etag=etag,
        )
        # What a masked update creates has only the masked fields: no base model, so it is refused.
        allow_missing = allow_missing and (not mask or held is not None)
        request = pb.UpdateDeploymentRequest(deployment=told, allow_missing=allow_missing)
        request.update_mask.paths.extend(mask)
        code, answer, again = self.call(self.stub.UpdateDeployment, request, request_id)
        if again:
            return
        assert code is self.expected(name, etag, may_create=allow_missing)
        if code is grpc.StatusCode.OK:
            before = held or Held(most=most, priority=priority, etag="")
            values = {"most": before.most, "priority": before.priority}
            asked = {"most": most, "priority": priority}
            values |= {field: asked[field] for field in MASKS[mask]}
            self.keep(name, values["most"], values["priority"], answer.etag)

    @rule(name=names, kind=etags, request_id=request_ids)
    def delete(self, name: str, kind: str, request_id: str) -> None:
        etag, held = self.etag(name, kind), self.model.get(name)
        request = pb.DeleteDeploymentRequest(
            name=f"{PARENT}/deployments/{self.prefix}-{name}", etag=etag
        )
        code, _, again = self.call(self.stub.DeleteDeployment, request, request_id)
        if again:
            return
        if held is None:
            assert code is grpc.StatusCode.NOT_FOUND
        elif etag and etag != held.etag:
            assert code is grpc.StatusCode.ABORTED
        else:
            assert code is grpc.StatusCode.OK
            if not held.deleting:
                self.committed += 1
                self.model[name] = replace(held, etag=self.present(name), deleting=True)

    @rule(name=names)
    def end(self, name: str) -> None:
        """What reconciliation does once nothing of a deleted deployment runs."""
        held = self.model.get(name)
        try:
            with self.database.write() as session:
                gone = remove_deployment(session, self.write, f"{self.prefix}-{name}")
        except Infeasible:
            assert held is not None
            assert not held.deleting
            return
        if gone:
            self.committed += 1
            self.model.pop(name)

    def present(self, name: str) -> str:
        request = pb.GetDeploymentRequest(name=f"{PARENT}/deployments/{self.prefix}-{name}")
        return str(self.stub.GetDeployment(request).etag)

    @invariant()
    def what_is_listed_is_the_model(self) -> None:
        request = pb.ListDeploymentsRequest(
            parent=PARENT, page_size=1_000, filter=f'spec.name = "{self.prefix}-*"'
        )
        listed = {
            one.spec.name.removeprefix(f"{self.prefix}-"): Held(
                most=one.spec.scaling.max_replicas,
                priority=one.spec.policy.priority + 1,
                etag=one.etag,
                deleting=one.status.deleting,
            )
            for one in self.stub.ListDeployments(request).deployments
        }
        # A removal beside the API's own process shows within a second.
        assert {n: h for n, h in listed.items() if n in self.model} == self.model

    @invariant()
    def who_watches_sees_every_change_once(self) -> None:
        self.watcher.wait_for(self.committed)
        first = self.began + 1
        assert self.watcher.sequences == list(range(first, first + self.committed))

    def teardown(self) -> None:
        self.watcher.close()
        with self.database.read() as session:
            assert verify_changes(session).fault == ""


def test_any_order_of_calls_does_what_the_model_says(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        record_report(session, write, a_report())
    with serving(database, write.epoch) as stub:
        make: Any = partial(Callers, database, write, stub)
        run_state_machine_as_test(
            make,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
