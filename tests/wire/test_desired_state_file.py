"""Every released format of the desired-state file is read for ever, byte for byte.

`desired-state.format-1.skerry` was written by the first release, those with a word more in their
names (`...-node-cordons.skerry`) by the first that had that; none is ever written again. A format
that is added gets a file of its own.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.autoscaling.told import ScalingTerms
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    Spread,
    Tolerate,
)
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.engine import EngineName, EngineSpec, SpeculativeDecoding, SpeculativeMethod
from skerry.fleet.generation import Version
from skerry.fleet.node import NodeCordon
from skerry.fleet.placement import Envelope
from skerry.fleet.routing import Routing, RoutingPolicy
from skerry.fleet.scaling import FloorSchedule, Strategy
from skerry.wire.desired import desired_from_proto, desired_to_proto
from workload_plane.desired_state.format import decode, decode_seen, encode, encode_seen

GOLDEN = Path(__file__).with_name("desired-state.format-1.skerry")
API_KEYS = Path(__file__).with_name("desired-state.format-1-api-keys.skerry")
NODE_CORDONS = Path(__file__).with_name("desired-state.format-1-node-cordons.skerry")
COEFFICIENTS = Path(__file__).with_name("desired-state.format-1-coefficients.skerry")
ROUTING = Path(__file__).with_name("desired-state.format-1-routing.skerry")
SCALING = Path(__file__).with_name("desired-state.format-1-scaling.skerry")
PROJECTS = Path(__file__).with_name("desired-state.format-1-projects.skerry")
REVOKED = Path(__file__).with_name("desired-state.format-1-revoked-planes.skerry")
SEEN = Path(__file__).with_name("desired-state.seen-1.skerry")

STATE = DesiredState(
    plane="onprem-fra",
    version=Version(epoch=3, generation=41),
    assignments=(
        Assignment(
            deployment=Deployment(
                name="chat",
                labels=(("team", "search"),),
                revision=Revision(
                    number=2,
                    base_model=BaseModel(uri="builtin://skerry-tiny", served_name="skerry-tiny"),
                    engine=EngineSpec(
                        name=EngineName.LLAMACPP,
                        context_tokens=1024,
                        concurrent_requests=8,
                        speculative=SpeculativeDecoding(
                            method=SpeculativeMethod.NGRAM, draft_tokens=4
                        ),
                        options=(("threads", "2"),),
                    ),
                    shapes=(
                        ResourceShape(
                            accelerator="cpu",
                            host_memory_bytes=1 << 30,
                            throughput_tokens_per_second=120.5,
                        ),
                    ),
                ),
                scaling=Scaling(min_replicas=1, max_replicas=6, scale_down_delay_seconds=900.0),
                policy=PlacementPolicy(
                    residency_zones=("eu",),
                    spread=Spread(domain=FailureDomain.REGION, domains_min=2),
                    tolerate=Tolerate(domain=FailureDomain.CLOUD, keep=0.9),
                    priority=0,
                ),
            ),
            envelopes=(
                Envelope(deployment="chat", pool="onprem-fra--cpu", floor=1, target=2, ceiling=4),
            ),
            serving_planes=("gcp-europe-west4", "onprem-fra"),
        ),
        Assignment(
            deployment=Deployment(
                name="old",
                revision=Revision(
                    number=1,
                    base_model=BaseModel(uri="simulated://old", served_name="old"),
                    engine=EngineSpec(name=EngineName.SIMULATED),
                    shapes=(ResourceShape(accelerator="cpu"),),
                ),
                scaling=Scaling(scale_down_delay_seconds=900.0),
            ),
            tombstone=True,
        ),
    ),
    peers=(
        PeerPlane(
            plane="gcp-europe-west4",
            cloud="gcp",
            region="europe-west4",
            peer_address="10.1.2.3:15443",
            residency_zones=("eu",),
        ),
    ),
    required_features=("envelopes.v1",),
)


LATER = replace(
    STATE,
    version=Version(epoch=4, generation=1_000_000),
    assignments=(
        replace(
            STATE.assignments[0],
            deployment=replace(
                STATE.assignments[0].deployment,
                policy=PlacementPolicy(
                    clouds=("gcp", "onprem"),
                    cost_per_hour_max=12.5,
                    spot_share_max=0.5,
                    anti_affinity=("old",),
                    latency=(LatencyLimit(client_region="eu-west", seconds_max=0.05),),
                ),
            ),
        ),
        STATE.assignments[1],
    ),
    required_features=("envelopes.v1", "peers.v1", "openengine.v1", "node-cordons.v1"),
    node_cordons=(
        NodeCordon(node="cpu-1", draining=True),
        NodeCordon(node="cpu-2", draining=False),
    ),
)


KEYED = replace(
    STATE,
    api_keys=(
        ApiKey(
            name="all",
            digest=bytes(range(32)),
            terms=KeyTerms(deployments=("*",)),
        ),
        ApiKey(
            name="team-a",
            digest=bytes(32),
            terms=KeyTerms(
                deployments=("demo", "other"), requests_per_minute=60, concurrent_requests=4
            ),
            expires_at=datetime(2027, 1, 1, tzinfo=UTC),
        ),
    ),
)
OWNED = replace(
    STATE,
    api_keys=(
        ApiKey(
            name="all-of-team-a",
            digest=bytes(range(32)),
            terms=KeyTerms(deployments=("demo", "other")),
            project="team-a",
            every_of_project=True,
        ),
        ApiKey(
            name="one-of-team-a",
            digest=bytes(32),
            terms=KeyTerms(deployments=("demo",)),
            project="team-a",
        ),
    ),
)
ROUTED = replace(
    STATE,
    assignments=(
        replace(
            STATE.assignments[0],
            deployment=replace(
                STATE.assignments[0].deployment,
                routing=Routing(
                    policy=RoutingPolicy.SESSION,
                    continuation=True,
                    queue_requests_max=0,
                    queue_seconds_max=2.5,
                ),
            ),
        ),
        STATE.assignments[1],
    ),
)

MEASURED = replace(
    STATE,
    assignments=(
        replace(
            STATE.assignments[0],
            coefficients=(
                Coefficients(
                    accelerator="cpu",
                    prefill_seconds_per_token=0.0005,
                    decode_seconds_per_token=0.001,
                    iteration_seconds=0.0125,
                ),
                Coefficients(
                    accelerator="h100",
                    prefill_seconds_per_token=0.0,
                    decode_seconds_per_token=0.0,
                    iteration_seconds=0.0,
                ),
            ),
        ),
        STATE.assignments[1],
    ),
)


SCALED = replace(
    STATE,
    assignments=(
        replace(
            STATE.assignments[0],
            deployment=replace(
                STATE.assignments[0].deployment,
                scaling=Scaling(
                    min_replicas=0,
                    max_replicas=6,
                    max_scale_down_rate=0.25,
                    strategy=Strategy.CONCURRENCY,
                    schedules=(
                        FloorSchedule(
                            cron="0 8 * * 1-5",
                            seconds=36_000.0,
                            min_replicas=3,
                            time_zone="Europe/Berlin",
                        ),
                        FloorSchedule(cron="*/30 * * * *", seconds=60.0, min_replicas=1),
                    ),
                    paused=True,
                    warm_spares=2,
                ),
            ),
            scaling=ScalingTerms(fleet_target=True, cold_start_seconds=150.0, warm_spares=1),
        ),
        STATE.assignments[1],
    ),
)


@pytest.fixture
def golden() -> bytes:
    return GOLDEN.read_bytes()


def test_every_golden_file_is_checked() -> None:
    there = {path.name for path in GOLDEN.parent.glob("*.skerry")}
    keyed = (API_KEYS, PROJECTS, REVOKED)
    every = (GOLDEN, NODE_CORDONS, ROUTING, COEFFICIENTS, SCALING, *keyed, SEEN)
    assert there == {path.name for path in every}


def test_format_1_with_scaling_is_read_and_written_as_it_was_meant() -> None:
    data = SCALING.read_bytes()
    assert decode(data).state == SCALED
    payload = desired_to_proto(SCALED).SerializeToString(deterministic=True)
    assert encode(payload, SCALED.version) == data


def test_a_delay_that_nobody_set_stays_unset() -> None:
    told = decode(SCALING.read_bytes()).state.assignments[0].deployment.scaling
    assert (told.scale_down_delay_seconds, told.max_scale_down_rate) == (None, 0.25)


def test_format_1_with_routing_is_read_and_written_as_it_was_meant() -> None:
    data = ROUTING.read_bytes()
    assert decode(data).state == ROUTED
    payload = desired_to_proto(ROUTED).SerializeToString(deterministic=True)
    assert encode(payload, ROUTED.version) == data


def test_format_1_with_coefficients_is_read_and_written_as_it_was_meant() -> None:
    data = COEFFICIENTS.read_bytes()
    assert decode(data).state == MEASURED
    payload = desired_to_proto(MEASURED).SerializeToString(deterministic=True)
    assert encode(payload, MEASURED.version) == data


def test_format_1_with_node_cordons_is_read_and_written_as_it_was_meant() -> None:
    data = NODE_CORDONS.read_bytes()
    assert decode(data).state == LATER
    payload = desired_to_proto(LATER).SerializeToString(deterministic=True)
    assert encode(payload, LATER.version) == data


def test_format_1_with_api_keys_is_read_and_written_as_it_was_meant() -> None:
    data = API_KEYS.read_bytes()
    assert decode(data).state == KEYED
    payload = desired_to_proto(KEYED).SerializeToString(deterministic=True)
    assert encode(payload, KEYED.version) == data


def test_format_1_with_projects_is_read_and_written_as_it_was_meant() -> None:
    data = PROJECTS.read_bytes()
    assert decode(data).state == OWNED
    payload = desired_to_proto(OWNED).SerializeToString(deterministic=True)
    assert encode(payload, OWNED.version) == data


def test_a_plane_that_knows_no_projects_reads_a_list_of_the_keys_own_deployments() -> None:
    every, _ = decode(PROJECTS.read_bytes()).state.api_keys or ()
    assert every.every_of_project
    assert every.terms.deployments == ("demo", "other")


def test_no_key_left_is_another_word_than_no_word_of_keys() -> None:
    for told in (None, ()):
        state = replace(STATE, api_keys=told)
        assert desired_from_proto(desired_to_proto(state)).api_keys == told


def test_format_1_with_revoked_planes_is_read_and_written_as_it_was_meant() -> None:
    data, told = REVOKED.read_bytes(), replace(STATE, revoked_planes=("edge-ams", "edge-lon"))
    assert decode(data).state == told
    payload = desired_to_proto(told).SerializeToString(deterministic=True)
    assert encode(payload, told.version) == data


def test_no_plane_revoked_is_another_word_than_no_word_of_revoked_planes() -> None:
    for told in (None, (), ("edge-ams",)):
        state = replace(STATE, revoked_planes=told)
        assert desired_from_proto(desired_to_proto(state)).revoked_planes == told


def test_format_1_is_read_as_it_was_meant(golden: bytes) -> None:
    assert decode(golden).state == STATE


def test_format_1_is_still_what_is_written(golden: bytes) -> None:
    payload = decode(golden).payload
    assert encode(payload, STATE.version) == golden
    assert desired_to_proto(STATE).SerializeToString(deterministic=True) == payload


def test_the_highest_version_that_is_kept_alone_is_read_as_it_was_written_first() -> None:
    highest = Version(epoch=3, generation=41)
    assert decode_seen(SEEN.read_bytes()) == highest
    assert encode_seen(highest) == SEEN.read_bytes()
