"""Planes two releases old and their control planes go on talking to today's, byte for byte.

`sent-DATE.json` are messages as the code of that day encoded them, in hex; `definitions-DATE.binpb`
is what that code could read. Neither is ever written again: a release that sends something new gets
files of its own, and those of the two releases before it stay.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from control_plane.api.violations import violations_of
from control_plane.link.decisions import PlaneDecisions
from control_plane.link.loads import HeardLoads
from skerry.api.operator.v1 import operator_service_pb2, scaling_pb2
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.client import scaling as client_scaling
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport, ToldDecision
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import FEATURES, TELLS_HELD, DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import PlaneReport
from skerry.fleet.token_budget import BudgetPeriod
from skerry.wire.deployments import deployment_from_proto
from skerry.wire.desired import desired_from_proto, desired_to_proto, proto_digest
from skerry.wire.observations import report_from_proto, report_to_proto
from skerry.wire.scaling import loads_to_proto
from tests.builders import T0, a_replica, a_report
from tests.wire.test_desired_state_file import KEYED, LATER, MEASURED, ROUTED, SCALED, STATE
from workload_plane.desired_state.accept import Accept, Held, Refuse, decide
from workload_plane.desired_state.file import DesiredStateFile
from workload_plane.link.session import terms_of

HERE = Path(__file__).parent
TWO_BEFORE, ONE_BEFORE = "2026-11-23", "2026-11-26"
RELEASES = (TWO_BEFORE, ONE_BEFORE)
DESIRED = "skerry.api.plane.v1.Desired"


def sent(release: str) -> dict[str, bytes]:
    told = json.loads((HERE / f"sent-{release}.json").read_text())
    return {name: bytes.fromhex(text) for name, text in told.items()}


def as_read_by(release: str, name: str) -> Any:
    """The class of a message as the code of a release knows it."""
    described = descriptor_pb2.FileDescriptorSet.FromString(
        (HERE / f"definitions-{release}.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_every_golden_file_is_tried() -> None:
    assert sorted(path.name for path in HERE.glob("sent-*.json")) == sorted(
        f"sent-{release}.json" for release in RELEASES
    )


@pytest.mark.parametrize("release", RELEASES)
def test_an_older_planes_messages_are_understood(release: str) -> None:
    told = sent(release)
    hello = messages.ConnectRequest.FromString(told["plane.hello"]).hello
    report = report_from_proto(hello.observed, tuple(hello.features), hello.software)
    assert (report.identity.name, report.held) == ("onprem-fra", Version(epoch=3, generation=41))
    assert [(r.deployment, r.revision, r.state.value) for r in report.replicas] == [
        ("chat", 2, "ready")
    ]
    # What a release does not tell is unknown here, and is taken for nothing that was said.
    assert (report.held_digest, report.newest_epoch, report.seen) == (b"", 0, NEVER)
    assert TELLS_HELD not in report.features
    observed = messages.ConnectRequest.FromString(told["plane.observed"]).observed
    assert report_from_proto(observed, report.features, report.software) == report
    assert messages.ConnectRequest.FromString(told["plane.heartbeat"]).heartbeat.number == 7
    ack = messages.ConnectRequest.FromString(told["plane.ack"]).ack
    assert (ack.version.epoch, ack.version.generation, len(ack.digest)) == (3, 42, 32)
    assert messages.ConnectRequest.FromString(told["plane.nack"]).nack.reason


@pytest.mark.parametrize("release", RELEASES)
def test_an_older_control_planes_messages_are_understood(release: str) -> None:
    told = sent(release)
    welcome = messages.ConnectResponse.FromString(told["control-plane.welcome"]).welcome
    assert terms_of(welcome.heartbeat_period_ms, welcome.heartbeat_timeout_ms).period_seconds == 1.0
    assert messages.ConnectResponse.FromString(told["control-plane.heartbeat"]).heartbeat.number
    desired = messages.ConnectResponse.FromString(told["control-plane.desired"]).desired
    state = desired_from_proto(desired)
    facts = Held(plane="onprem-fra", state=None, seen=NEVER)
    assert decide(state, facts) == Accept()
    # A state that an older leader wrote has the digest that today's code gives it.
    assert desired_to_proto(state).digest == desired.digest


@pytest.mark.parametrize("release", RELEASES)
def test_an_older_clients_calls_are_understood(release: str) -> None:
    told = sent(release)
    apply = operator_service_pb2.ApplyDeploymentRequest.FromString(
        told["operator.apply-deployment"]
    )
    assert list(violations_of(apply.spec)) == []
    deployment: Deployment = deployment_from_proto(apply.spec)
    assert (deployment.name, deployment.scaling.max_replicas) == ("chat", 6)
    page = operator_service_pb2.ListPlanesRequest.FromString(told["operator.list-planes"])
    assert (page.parent, page.page_size) == ("projects/default", 10)


def at_once(state: DesiredState) -> DesiredState:
    """The state with a scale-down delay of 0 in all its deployments, which somebody asked for."""
    assignments = []
    for one in state.assignments:
        scaling = replace(one.deployment.scaling, scale_down_delay_seconds=0.0)
        assignments.append(replace(one, deployment=replace(one.deployment, scaling=scaling)))
    return replace(state, assignments=tuple(assignments))


def test_a_delay_of_nought_is_not_a_delay_that_nobody_named() -> None:
    for state in (at_once(STATE), STATE):
        assert desired_from_proto(desired_to_proto(state)) == state


COUNTED = replace(
    KEYED,
    api_keys=tuple(
        replace(
            key,
            terms=replace(
                key.terms,
                tokens_per_minute=600,
                budget_tokens=10**12,
                budget_period=BudgetPeriod.DAY,
            ),
        )
        for key in KEYED.api_keys or ()
    ),
)


def test_bounds_on_tokens_come_to_planes_whole() -> None:
    assert desired_from_proto(desired_to_proto(COUNTED)) == COUNTED


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "state", [STATE, LATER, ROUTED, MEASURED, SCALED, at_once(SCALED), KEYED, COUNTED]
)
def test_an_older_plane_finds_the_digest_right_of_what_it_is_told(release: str, state: Any) -> None:
    told = replace(state, planes=64)  # a field that neither release knows
    message = desired_to_proto(told)
    known: Any = as_read_by(release, DESIRED)
    received = known.FromString(message.SerializeToString(deterministic=True))
    assert proto_digest_by(known, received) == message.digest


def proto_digest_by(known: Any, received: Any) -> bytes:
    """The digest as every release has computed it, over the classes of one of them."""
    bare = known()
    bare.CopyFrom(received)
    bare.ClearField("version")
    bare.ClearField("digest")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


@pytest.mark.parametrize("release", RELEASES)
def test_an_older_control_plane_reads_what_today_s_plane_reports(release: str) -> None:
    report: PlaneReport = a_report(
        held=Version(epoch=3, generation=41),
        held_digest=b"\x01" * 32,
        newest_epoch=4,
        seen=Version(epoch=3, generation=42),
        replicas=(a_replica(),),
        features=FEATURES,
    )
    known: Any = as_read_by(release, "skerry.api.plane.v1.ConnectRequest")
    request = messages.ConnectRequest(
        hello=messages.Hello(observed=report_to_proto(report), features=report.features)
    )
    hello = known.FromString(request.SerializeToString()).hello
    assert (hello.observed.held.generation, len(hello.observed.replicas)) == (41, 1)
    # An answer to a question that it never asks is a message of no kind to it.
    held = messages.ConnectRequest(held=messages.Desired(plane="onprem-fra"))
    assert known.FromString(held.SerializeToString()).WhichOneof("message") is None
    asked: Any = as_read_by(release, "skerry.api.plane.v1.ConnectResponse")
    question = messages.ConnectResponse(tell_held=messages.TellHeld()).SerializeToString()
    assert asked.FromString(question).WhichOneof("message") is None


NINE = bytes.fromhex("0000000000002240")  # as a double
OWN = ToldDecision(
    decided_at=T0,
    sentence="start 2, for 3.",
    because="need",
    target=3,
    ready=1,
    starting=0,
    draining=0,
    floor=1,
    ceiling=4,
)


@pytest.mark.parametrize("release", RELEASES)
def test_loads_with_decisions_are_of_no_kind_to_a_release_that_never_asked_for_them(
    release: str,
) -> None:
    load = DeploymentLoad(deployment="chat", decision=OWN)
    told = loads_to_proto(LoadReport(loads=(load,)), [("chat", OWN), ("chat", OWN)])
    known: Any = as_read_by(release, "skerry.api.plane.v1.ConnectRequest")
    request = known.FromString(messages.ConnectRequest(loads=told).SerializeToString())
    assert request.WhichOneof("message") is None


def test_a_plane_that_tells_its_newest_decision_alone_is_understood() -> None:
    # deployment "chat" with decision {sentence "keep 3.", target 3}, as it was sent before.
    told = messages.LoadReport.FromString(
        bytes.fromhex("0a130a04636861741a0b12076b65657020332e2003")
    )
    kept = PlaneDecisions()
    kept.take("onprem-fra", told.decisions, 1.0)
    assert kept.planes("chat", 1.0) == ()
    load = HeardLoads(told, 1.0).of("chat")
    assert load is not None
    assert load.decision is not None
    assert (load.decision.sentence, load.decision.target) == ("keep 3.", 3)


def test_a_plane_that_tells_nothing_of_its_answers_is_understood() -> None:
    # deployment "chat" with reading {requests_total 9}, as it was sent before.
    told = messages.LoadReport.FromString(bytes.fromhex("0a110a0463686174120909") + NINE)
    load = HeardLoads(told, 1.0).of("chat")
    assert load is not None
    assert load.reading is not None
    assert (load.reading.requests_total, load.answers) == (9.0, None)


def test_a_control_plane_that_explains_no_planes_own_decisions_is_understood() -> None:
    # planes {plane "fra", decision {target 3}}, as it was answered before.
    told = scaling_pb2.ScalingExplanation.FromString(bytes.fromhex("42090a0366726112022003"))
    (row,) = client_scaling.explanation(told).planes
    assert (row.plane, row.counts, row.decisions) == ("fra", False, ())
    assert row.decision is not None
    assert row.decision.target == 3


def from_the_future(payload: bytes) -> bytes:
    """A desired state as a newer control plane sends it: a field of its own, digest and all."""
    unknown = b"\xca\x3e\x04\xde\xad\xbe\xef"  # field 1001, four bytes
    message = messages.Desired.FromString(payload + unknown)
    message.digest = proto_digest(message)
    return message.SerializeToString(deterministic=True)


def test_fields_of_a_newer_release_stay_on_disk_byte_for_byte(tmp_path: Path) -> None:
    payload = from_the_future(desired_to_proto(STATE).SerializeToString(deterministic=True))
    assert b"\xde\xad\xbe\xef" in payload
    file = DesiredStateFile(tmp_path / "desired" / "state.skerry")
    file.prepare()
    file.store(payload)
    again = DesiredStateFile(tmp_path / "desired" / "state.skerry").load()
    assert again is not None
    assert again.stored.payload == payload
    assert again.stored.state == STATE
    # A plane of the next release reads there what its control plane had sent.
    newer = messages.Desired.FromString(again.stored.payload)
    assert newer.digest == proto_digest(newer)


def test_what_must_be_understood_and_is_not_is_refused_and_the_old_state_kept() -> None:
    held = Held(plane="onprem-fra", state=STATE, seen=STATE.version)
    newer = replace(
        STATE,
        version=replace(STATE.version, generation=STATE.version.generation + 1),
        required_features=("envelopes.v1", "teleportation.v1"),
    )
    verdict = decide(newer, held)
    assert isinstance(verdict, Refuse)
    assert "teleportation.v1" in verdict.reason
