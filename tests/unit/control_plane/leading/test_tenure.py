"""What a standby tells its callers: who leads and where, as far as that is known."""

import pytest

from control_plane.api.serving import operator_services
from control_plane.leading.door import STORED_READS, answers_on_standby, is_read
from control_plane.leading.tenure import Tenure
from control_plane.leading.term import term_from
from control_plane.store.leadership import Addresses, Leadership
from skerry.client.retrying import LEADER
from tests.fakes.clock import FakeClock

AT = Addresses(operator="10.0.0.1:1", link="10.0.0.1:2", http="10.0.0.1:3")


def led_by(seconds_left: float | None) -> Tenure:
    tenure = Tenure(FakeClock(), "cp-2")
    leader = Leadership(epoch=4, holder="cp-1", addresses=AT, seconds_left=seconds_left)
    tenure.note_leader(leader)
    return tenure


def test_an_operator_is_sent_to_the_leaders_operator_port_and_a_plane_to_its_link() -> None:
    tenure = led_by(2.0)
    assert tenure.refuse_operator().hints[LEADER] == AT.operator
    assert tenure.refuse_plane().hints[LEADER] == AT.link
    assert "cp-1" in tenure.refuse_operator().message
    assert tenure.refuse_operator().hints["leader_http"] == AT.http


@pytest.mark.parametrize("seconds_left", [None, 0.0, -5.0])
def test_a_leader_whose_term_is_over_is_not_named(seconds_left: float | None) -> None:
    refusal = led_by(seconds_left).refuse_operator()
    assert not refusal.hints
    assert refusal.retry_after_seconds


def test_before_the_first_look_nobody_is_named() -> None:
    assert not Tenure(FakeClock(), "cp-2").refuse_plane().hints


async def test_a_term_that_is_over_by_our_own_clock_ends_acting() -> None:
    clock = FakeClock()
    tenure = Tenure(clock, "cp-1")
    assert (tenure.epoch, tenure.is_acting) == (0, False)
    tenure.term = term_from(7, clock.monotonic())
    assert (tenure.epoch, tenure.is_acting) == (7, True)
    await clock.run_for(60.0)
    assert (tenure.epoch, tenure.is_acting) == (7, False)


@pytest.mark.parametrize(
    ("method", "answers"),
    [
        ("/skerry.api.operator.v1.OperatorService/ListPools", True),
        ("/skerry.api.operator.v1.CatalogueService/GetBaseModel", True),
        ("/skerry.api.operator.v1.CatalogueService/CreateBaseModel", False),
        # A standby hears no planes: it would show none of their replicas.
        ("/skerry.api.operator.v1.OperatorService/ListReplicas", False),
        ("/skerry.api.operator.v1.OperatorService/GetDeployment", False),
        ("/skerry.api.operator.v1.OperatorService/WatchChanges", True),
        ("/skerry.api.operator.v1.OperatorService/VerifyChanges", True),
        ("/skerry.api.operator.v1.OperatorService/Apply", False),
        ("/skerry.api.operator.v1.OperatorService/Explain", False),
        ("/skerry.api.operator.v1.OperationsService/Drain", False),
        ("/grpc.health.v1.Health/Check", True),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
    ],
)
def test_a_standby_answers_what_the_database_knows(method: str, answers: bool) -> None:
    assert answers_on_standby(method) is answers


def test_what_a_standby_answers_are_reads_that_there_are() -> None:
    methods = [
        f"/{service.full_name}/{method.name}"
        for service in operator_services()
        for method in service.methods
    ]
    assert {method.rpartition("/")[2] for method in methods} >= STORED_READS
    assert all(is_read(method) for method in methods if answers_on_standby(method))
