"""Files of every kind but Deployment: what is read, and every fault named with its place."""

from datetime import UTC, datetime

import pytest
from hypothesis import given

from skerry.client.manifest import Object, read_manifests, read_objects
from skerry.client.manifest_rendering import render_text
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.cordon import Part, Scope
from skerry.fleet.intent import CordonIntent, PoolIntent, PriceIntent
from skerry.fleet.pool import CapacityClass, PoolTerms
from skerry.plumbing.errors import InvalidInput
from tests.properties.fleet_intents import objects
from tests.unit.skerry.client.test_manifest import MINIMAL

NEW_YEAR = datetime(2026, 12, 31, 23, tzinfo=UTC)

EVERY_KIND = """\
apiVersion: skerry/v1
kind: Cloud
metadata: {name: gcp}
---
apiVersion: skerry/v1
kind: Region
metadata: {name: gcp/west}
spec:
  description: near the users
  clientLatency: {eu-west: 12ms, us-east: 0.1s}
---
apiVersion: skerry/v1
kind: AcceleratorKind
metadata: {name: h100-80gb}
spec: {vendor: nvidia, memory: 80GiB}
---
apiVersion: skerry/v1
kind: BaseModel
metadata: {name: tiny}
spec: {uri: "builtin://skerry-tiny", weights: 5MiB}
---
apiVersion: skerry/v1
kind: Pool
metadata: {name: onprem-fra--cpu}
spec: {class: reserved, pricePerAcceleratorHour: 2}
---
apiVersion: skerry/v1
kind: Price
metadata: {name: onprem-fra--cpu}
spec: {validFrom: 2027-01-01T00:00:00+01:00, pricePerAcceleratorHour: 2.5}
---
apiVersion: skerry/v1
kind: Reservation
metadata: {name: gpu-2026}
spec:
  pool: onprem-fra--cpu
  pricePerAcceleratorHour: 1.5
  startTime: 2026-12-31T23:00:00Z
  endTime: "2027-12-31T23:00:00Z"
---
apiVersion: skerry/v1
kind: Cordon
metadata: {name: region/gcp/west}
spec: {draining: true, reason: moving out}
---
"""
READ = (
    Cloud(name="gcp"),
    Region(
        name="gcp/west",
        description="near the users",
        client_latency_seconds=(("eu-west", 0.012), ("us-east", 0.1)),
    ),
    AcceleratorKind(name="h100-80gb", vendor="nvidia", memory_bytes=80 * 2**30),
    RegisteredModel(name="tiny", uri="builtin://skerry-tiny", weight_bytes=5 * 2**20),
    PoolIntent(
        pool="onprem-fra--cpu",
        terms=PoolTerms(capacity_class=CapacityClass.RESERVED, price_per_accelerator_hour=2.0),
    ),
    PriceIntent(pool="onprem-fra--cpu", valid_from=NEW_YEAR, price_per_accelerator_hour=2.5),
    Reservation(
        name="gpu-2026",
        pool="onprem-fra--cpu",
        price_per_accelerator_hour=1.5,
        start_time=NEW_YEAR,
        end_time=NEW_YEAR.replace(year=2027),
    ),
    CordonIntent(
        part=Part(scope=Scope.REGION, name="gcp/west"), reason="moving out", draining=True
    ),
)


def fault_of(text: str) -> str:
    with pytest.raises(InvalidInput) as refused:
        read_objects(text.encode(), "x.yaml")
    return refused.value.message


def a_file(kind: str, name: str, spec: str = "") -> str:
    head = f"apiVersion: skerry/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return head + (f"spec: {spec}\n" if spec else "")


def test_a_file_of_every_kind_is_read_in_its_order() -> None:
    found = read_objects((EVERY_KIND + MINIMAL).encode(), "x.yaml")
    assert found[:-1] == READ
    assert read_manifests((EVERY_KIND + MINIMAL).encode(), "x.yaml") == found[-1:]


@given(objects())
def test_whatever_is_written_reads_back_as_it_was(one: Object) -> None:
    text = render_text([one])
    assert read_objects(text.encode(), "x.yaml") == (one,)
    assert render_text(read_objects(text.encode(), "x.yaml")) == text


RESERVED = "{pool: a--b, pricePerAcceleratorHour: 1, startTime: 2026-01-01T00:00:00Z, endTime: END}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (a_file("Pol", "a--b"), "2:1: kind: must be 'Deployment', 'Cloud'"),
        (a_file("Pol", "a--b"), "did you mean Pool?"),
        (a_file("Deploymnt", "a"), "did you mean Deployment?"),
        ("apiVersion: skerry/v1\nmetadata: {name: a}\n", "kind: is required: one of 'Deployment'"),
        (a_file("5", "a"), "kind: must be 'Deployment'"),
        (a_file("Pool", "a--b"), "spec: is required"),
        (a_file("Pool", "a", "{}"), "3:12: metadata.name: pool 'a' must look like PLANE--POOL"),
        (a_file("Pool", "A--b", "{}"), "metadata.name: pool 'A--b' must be 1-63 characters"),
        (a_file("Pool", "a--b", "{clas: spot}"), "spec.clas: unknown field; did you mean class?"),
        (a_file("Pool", "a--b", "{class: cheap}"), "spec.class: must be 'reserved', 'on_demand'"),
        (a_file("Pool", "a--b", "{pricePerAcceleratorHour: -1}"), "must be at least 0"),
        (a_file("Pool", "a--b", "{pricePerAcceleratorHour: 1e9}"), "must be at most 10000"),
        (a_file("Pool", "a--b", '{pricePerAcceleratorHour: "1"}'), "must be a number"),
        (a_file("Pool", "a--b", "{pricePerAcceleratorHour: .nan}"), "not a finite number"),
        (a_file("Pool", "a--b", "{cordoned: 1}"), "spec.cordoned: must be true or false"),
        (a_file("Cloud", "Gcp"), "metadata.name: cloud 'Gcp' must be"),
        (a_file("Cloud", "gcp", "{description: 5}"), "spec.description: must be text"),
        (a_file("Cloud", "gcp", f"{{description: {'x' * 1_001}}}"), "at most 1000 characters"),
        (a_file("Cloud", "gcp", '{description: "\\u2028"}'), "spec.description: description must"),
        (a_file("Region", "gcp"), "metadata.name: region 'gcp' must look like CLOUD/REGION"),
        (a_file("Region", "g/w", "{clientLatency: {eu: 12}}"), "must be a time with its unit"),
        (a_file("Region", "g/w", "{clientLatency: {eu: 11s}}"), "eu: must be at most 10"),
        (a_file("AcceleratorKind", "x", "{memory: many}"), "spec.memory: must be an amount"),
        (a_file("AcceleratorKind", "x", "{memory: 2000TiB}"), "spec.memory: must be at most"),
        (a_file("BaseModel", "x", "{uri: there}"), "spec.uri: must be a URI such as"),
        (a_file("BaseModel", "x", "{uri: 'a://b', sha256: abc}"), "spec.sha256: must be 64 digits"),
        (a_file("Reservation", "x", "{pool: a--b}"), "spec.startTime: is required"),
        (
            a_file("Reservation", "x", RESERVED.replace("END", "2025-01-01T00:00:00Z")),
            "spec.endTime: end_time 2025-01-01T00:00:00+00:00 must be after",
        ),
        (
            a_file("Reservation", "x", RESERVED.replace("END", "2027-01-01")),
            "spec.endTime: must be a time with its zone",
        ),
        (
            a_file("Reservation", "x", RESERVED.replace("END", "2027-13-01T00:00:00Z")),
            "spec.endTime: must be a time with its zone",
        ),
        (
            a_file(
                "Reservation",
                "x",
                RESERVED.replace("a--b", "A").replace("END", "2027-01-01T00:00:00Z"),
            ),
            "spec.pool: pool 'A' must be",
        ),
        (
            a_file("Price", "a--b", "{validFrom: 2027-01-01T00:00:00Z}"),
            "PerAcceleratorHour: is req",
        ),
        (
            a_file("Price", "a", "{validFrom: 2027-01-01T00:00:00Z, pricePerAcceleratorHour: 1}"),
            "metadata.name: pool 'a' must look like PLANE--POOL",
        ),
        (
            a_file("Cordon", "planes/x"),
            "metadata.name: 'planes/x' must look like one of node/PLANE",
        ),
        (a_file("Cordon", "region/x"), "metadata.name: region 'x' must look like CLOUD/REGION"),
        (a_file("Cordon", "plane/x", "{drain: true}"), "did you mean draining?"),
        (a_file("Cloud", "gcp, labels: {}"), "metadata.labels: unknown field; known here: name"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_field(text: str, said: str) -> None:
    message = fault_of(text)
    assert said in message
    assert message.startswith("x.yaml:")


def test_the_faults_of_all_documents_are_told_at_once() -> None:
    text = "---\n".join(
        (
            a_file("Pool", "a--b", "{clas: spot, cordoned: 7}"),
            a_file("Cloud", "fine"),
            a_file("Cloud", "Gcp"),
        )
    )
    lines = fault_of(text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["4", "4", "12"]


def test_no_more_faults_are_told_than_anybody_reads() -> None:
    text = "---\n".join(a_file("Cloud", "Gcp") for _ in range(12))
    lines = fault_of(text).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "and 2 more faults"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (READ[0], Cloud(name="gcp", description="x"), "cloud 'gcp'"),
        (
            READ[5],
            PriceIntent(
                pool="onprem-fra--cpu", valid_from=NEW_YEAR, price_per_accelerator_hour=3.0
            ),
            "price 'onprem-fra--cpu from 2026-12-31T23:00:00Z'",
        ),
        (
            READ[7],
            CordonIntent(part=Part(scope=Scope.REGION, name="gcp/west")),
            "cordon 'region/gcp/west'",
        ),
    ],
)
def test_the_same_thing_twice_in_a_file_is_refused(one: Object, other: Object, said: str) -> None:
    assert f"metadata.name: {said} is in this file twice" in fault_of(render_text([one, other]))


def test_things_of_different_kinds_may_have_one_name() -> None:
    pair: list[Object] = [Cloud(name="x"), AcceleratorKind(name="x")]
    assert read_objects(render_text(pair).encode(), "x") == tuple(pair)
