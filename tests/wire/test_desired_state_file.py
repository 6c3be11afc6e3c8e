"""Every released format of the desired-state file is read for ever, byte for byte.

`desired-state.format-1.skerry` was written by the first release; it is never written again.
"""

from pathlib import Path

import pytest

from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
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
from skerry.fleet.placement import Envelope
from skerry.wire.desired import desired_to_proto
from workload_plane.desired_state.format import decode, encode

GOLDEN = Path(__file__).with_name("desired-state.format-1.skerry")

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
                scaling=Scaling(min_replicas=1, max_replicas=6),
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


@pytest.fixture
def golden() -> bytes:
    return GOLDEN.read_bytes()


def test_format_1_is_read_as_it_was_meant(golden: bytes) -> None:
    assert decode(golden).state == STATE


def test_format_1_is_still_what_is_written(golden: bytes) -> None:
    payload = decode(golden).payload
    assert encode(payload, STATE.version) == golden
    assert desired_to_proto(STATE).SerializeToString(deterministic=True) == payload
