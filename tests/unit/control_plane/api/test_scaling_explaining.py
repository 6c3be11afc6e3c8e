"""An explanation of a fleet of thousands of planes fits in a message, the newest of it first."""

from dataclasses import replace

from control_plane.api.scaling_explaining import DECISIONS_MAX, PLANES_MAX, scaling_to_proto
from skerry.fleet.autoscaling.scaled import RECORD_PLANES_MAX, FleetRecord, ShareRecord
from skerry.fleet.autoscaling.told import (
    SENTENCE_CHARACTERS_MAX,
    DeploymentLoad,
    LoadReport,
    ToldDecision,
)
from skerry.fleet.deployment import Scaling
from skerry.plumbing.rpc import MESSAGE_BYTES_MAX
from tests.builders import T0, a_deployment

LONG = "a-name-that-is-as-long-as-the-names-of-planes-may-be-at-the-most"
DECISION = ToldDecision(
    decided_at=T0,
    sentence="ä" * SENTENCE_CHARACTERS_MAX,
    because="granted",
    target=3,
    ready=1,
    starting=0,
    draining=0,
    floor=1,
    ceiling=4,
)
RECORD = FleetRecord(
    deployment="demo",
    decided_at=T0,
    sentence=", ".join(f"{LONG} {number}" for number in range(24)),
    because="need",
    running=1,
    total=3,
    wanted=5,
    unmet=2,
    demand=3,
    floor=1,
    unheard=tuple(f"{LONG}{number}" for number in range(RECORD_PLANES_MAX)),
    shares=tuple(
        ShareRecord(
            plane=f"p{4_000 + number}",
            running=1,
            floor=1,
            ceiling=4,
            target=3,
            price_per_hour=0.1,
        )
        for number in range(RECORD_PLANES_MAX)
    ),
)


def test_an_explanation_of_thousands_of_planes_fits_in_a_message() -> None:
    report = LoadReport(loads=(DeploymentLoad(deployment="demo", decision=DECISION),))
    loads = {f"p{number:04d}": report for number in range(5_000)}
    records = [replace(RECORD, running=number) for number in range(DECISIONS_MAX)]
    demo = a_deployment(scaling=Scaling(min_replicas=1, max_replicas=8))
    message = scaling_to_proto(demo, records, loads)
    assert message.ByteSize() < MESSAGE_BYTES_MAX
    assert len(message.planes) == PLANES_MAX
    named = {one.plane for one in message.planes}
    assert {share.plane for share in RECORD.shares} <= named, "those that change most"
    kept = [one.running for one in message.decisions]
    assert kept == list(range(len(kept))), "the newest"
    assert len(kept) > 120


def test_of_few_planes_all_is_told() -> None:
    report = LoadReport(loads=(DeploymentLoad(deployment="demo", decision=DECISION),))
    demo = a_deployment(scaling=Scaling(min_replicas=1, max_replicas=8))
    message = scaling_to_proto(demo, [RECORD] * 120, {"gcp": report, "fra": report})
    assert [one.plane for one in message.planes] == ["fra", "gcp"]
    assert len(message.decisions) == 120
