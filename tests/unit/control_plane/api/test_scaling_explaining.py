"""An explanation of a fleet of thousands of planes fits in a message, the newest of it first."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True)
class Live:
    """What planes told."""

    counted: Mapping[str, LoadReport]
    own: Mapping[str, tuple[ToldDecision, ...]] = field(default_factory=dict)

    def loads(self) -> Mapping[str, LoadReport]:
        return self.counted

    def deciding(self, deployment: str) -> tuple[str, ...]:
        assert deployment == "demo"
        return tuple(sorted(self.own))

    def decided(self, deployment: str, plane: str, most: int) -> tuple[ToldDecision, ...]:
        assert deployment == "demo"
        return self.own.get(plane, ())[:most]


def test_an_explanation_of_thousands_of_planes_fits_in_a_message() -> None:
    report = LoadReport(loads=(DeploymentLoad(deployment="demo", decision=DECISION),))
    loads = {f"p{number:04d}": report for number in range(5_000)}
    records = [replace(RECORD, running=number) for number in range(DECISIONS_MAX)]
    demo = a_deployment(scaling=Scaling(min_replicas=1, max_replicas=8))
    own = dict.fromkeys(loads, (DECISION,) * 60)
    message = scaling_to_proto(demo, records, Live(loads, own), DECISIONS_MAX)
    assert message.ByteSize() < MESSAGE_BYTES_MAX
    assert len(message.planes) == PLANES_MAX
    named = {one.plane for one in message.planes}
    assert {share.plane for share in RECORD.shares} <= named, "those that change most"
    kept = [one.running for one in message.decisions]
    assert kept == list(range(len(kept))), "the newest"
    assert len(kept) > 120
    of_planes = [len(one.decisions) for one in message.planes]
    assert min(of_planes) >= max(of_planes) - 1, "as many of each"
    assert min(of_planes) >= 1


def test_of_few_planes_all_is_told() -> None:
    report = LoadReport(loads=(DeploymentLoad(deployment="demo", decision=DECISION),))
    demo = a_deployment(scaling=Scaling(min_replicas=1, max_replicas=8))
    live = Live({"gcp": report, "fra": report})
    message = scaling_to_proto(demo, [RECORD] * 120, live, 120)
    assert [one.plane for one in message.planes] == ["fra", "gcp"]
    assert len(message.decisions) == 120


def test_what_a_plane_decided_by_itself_is_told_also_when_it_is_not_heard_any_more() -> None:
    report = LoadReport(loads=(DeploymentLoad(deployment="demo", decision=DECISION),))
    own = {"fra": (DECISION, replace(DECISION, target=2), DECISION), "gcp": (DECISION,)}
    demo = a_deployment(scaling=Scaling(min_replicas=1, max_replicas=8))
    message = scaling_to_proto(demo, [], Live({"fra": report}, own), 2)
    assert [(one.plane, one.HasField("decision")) for one in message.planes] == [
        ("fra", True),
        ("gcp", False),
    ]
    assert [[d.target for d in one.decisions] for one in message.planes] == [[3, 2], [3]]
