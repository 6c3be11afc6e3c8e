"""What is exported of any fleet makes the same fleet of an empty one, and changes nothing in it."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.operator_service import OperatorService
from control_plane.api.writing import Writing
from control_plane.store.engine import open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.planes import record_report
from control_plane.store.schema import upgrade
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.client.context import Context
from skerry.client.fleet_intent import read_fleet, split
from skerry.client.manifest import Object, read_objects
from skerry.client.manifest_rendering import render_text
from skerry.client.operator import OperatorClient
from skerry.client.operator_calls import Call
from skerry.client.rows import AppliedEverything, ApplyOutcome
from skerry.fleet.deployment import Deployment
from skerry.fleet.intent import KINDS, subject_of
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from tests.builders import a_report
from tests.fakes.clock import START, FakeClock
from tests.properties.examples import examples
from tests.properties.fleet_intents import objects
from tests.unit.control_plane.api.conftest import _Live, _Questions, _Reconciler

Answer = TypeVar("Answer")

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet-intent.yaml"


class _Context:
    """Of a call without metadata."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


class Direct(OperatorClient):
    """The blocking client, with the services' methods called in place of a network's."""

    def __init__(self, runner: asyncio.Runner, services: Sequence[Any]) -> None:
        ids = SystemIds(SystemClock())
        super().__init__(Context(endpoints=("127.0.0.1:1",)), ids, "user:test")
        self._runner, self._services = runner, services

    def run(self, call: Call[Answer]) -> Answer:
        service = next(s for s in self._services if call.method in vars(type(s)))
        made = getattr(service, call.method)(call.request, _Context())
        message = self._runner.run(made)
        if isinstance(message, bytes):
            message = getattr(pb, f"{call.method}Response").FromString(message)
        return call.read(message)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "empty.db"
    upgrade(f"sqlite:///{path}")
    return path


@contextmanager
def a_control_plane(empty: Path, *planes: str) -> Iterator[Direct]:
    """Serve an empty fleet of planes that have no pools yet."""
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        shutil.copyfile(empty, f"{folder}/skerry.db")
        database = open_database(f"sqlite:///{folder}/skerry.db")
        reconciler, clock = _Reconciler(), FakeClock()
        with database.write() as session:
            reconciler.epoch = take_leadership(session, "cp-1", START)
            write = WriteContext(epoch=reconciler.epoch, actor="plane:x", now=START)
            for plane in planes:
                record_report(session, write, a_report(plane, pools=()))
        service = OperatorService(
            database=database,
            clock=clock,
            reconciler=reconciler,
            live=_Live(),
            questions=_Questions(),
        )
        catalogue = CatalogueService(database=database, writing=Writing(reconciler, clock))
        with Direct(runner, (service, catalogue)) as client:
            yield client
        database.close()


def apply(client: Direct, said: Sequence[Object]) -> AppliedEverything:
    deployments, intents = split(said)
    return client.apply_everything(deployments, intents)


def outcomes(done: AppliedEverything) -> set[ApplyOutcome]:
    return {one.outcome for one in done.deployments} | {one.outcome for one in done.intents}


def subject(one: Object) -> object:
    return one.name if isinstance(one, Deployment) else subject_of(one)


# Every example makes two stores.
@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(objects(), min_size=1, max_size=12, unique_by=subject), st.data())
def test_an_export_makes_the_same_fleet_again_and_changes_nothing_where_it_is_from(
    empty: Path, said: list[Object], data: st.DataObject
) -> None:
    names = [one.name for one in said if isinstance(one, Deployment)]
    ending = data.draw(st.sets(st.sampled_from(names))) if names else set()
    with a_control_plane(empty, "gcp-west", "onprem-fra") as fleet:
        assert outcomes(apply(fleet, said)) == {ApplyOutcome.CREATED}
        for name in ending:
            fleet.delete_deployment(name)
        exported = render_text(read_fleet(fleet))
        changes = fleet.changes_since(0)
        wanted = [one for one in said if not (isinstance(one, Deployment) and one.name in ending)]
        if not wanted:
            assert exported == ""
            return
        again = read_objects(exported.encode(), "export.yaml")
        assert sorted(again, key=repr) == sorted(wanted, key=repr)
        assert outcomes(apply(fleet, again)) == {ApplyOutcome.UNCHANGED}
        assert fleet.changes_since(0) == changes
    with a_control_plane(empty) as other:
        assert outcomes(apply(other, again)) == {ApplyOutcome.CREATED}
        assert render_text(read_fleet(other)) == exported


def test_the_example_of_every_kind_is_applied_once_and_then_is_in_force(empty: Path) -> None:
    said = read_objects(EXAMPLE.read_bytes(), EXAMPLE.name)
    with a_control_plane(empty, "onprem-fra") as fleet:
        assert outcomes(apply(fleet, said)) == {ApplyOutcome.CREATED}
        assert outcomes(apply(fleet, said)) == {ApplyOutcome.UNCHANGED}
        assert {type(one) for one in read_fleet(fleet)} == {*KINDS.values()}
