"""Deployment files: what is read, and every fault named with its place."""

from pathlib import Path

import pytest
import yaml

from skerry.client.manifest import read_manifests
from skerry.client.manifest_rendering import render_manifest
from skerry.fleet.deployment import FailureDomain, LatencyLimit, Spread, Tolerate
from skerry.fleet.engine import EngineName, SpeculativeMethod
from skerry.fleet.routing import Routing, RoutingPolicy
from skerry.plumbing.errors import InvalidInput
from skerry.wire.deployments import deployment_from_proto, deployment_to_proto

EXAMPLES = Path(__file__).parents[4] / "examples"

MINIMAL = """\
apiVersion: skerry/v1
kind: Deployment
metadata:
  name: demo
spec:
  baseModel:
    uri: builtin://skerry-tiny
  engine:
    name: llamacpp
  resources:
    - accelerator: cpu
"""


def fault_of(text: str | bytes) -> str:
    """Return the message with which a file is refused."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidInput) as refused:
        read_manifests(data, "x.yaml")
    return refused.value.message


def test_minimal_file_takes_the_defaults() -> None:
    (deployment,) = read_manifests(MINIMAL.encode(), "x.yaml")
    assert deployment.name == "demo"
    assert deployment.revision.base_model.served_name == "demo"
    assert deployment.revision.shapes[0].accelerators == 1
    assert (deployment.scaling.min_replicas, deployment.scaling.max_replicas) == (1, 1)


def test_a_file_that_says_nothing_of_routing_has_its_defaults_and_one_that_does_is_kept() -> None:
    (deployment,) = read_manifests(MINIMAL.encode(), "x.yaml")
    assert deployment.routing == Routing()
    told = "  routing: {policy: session, continuation: true, queue: {requestsMax: 0}}\n"
    (deployment,) = read_manifests((MINIMAL + told).encode(), "x.yaml")
    assert deployment.routing == Routing(
        policy=RoutingPolicy.SESSION, continuation=True, queue_requests_max=0
    )


def test_streams_of_a_service_that_is_passed_through_cannot_be_continued() -> None:
    told = "  routing:\n    policy: session\n    continuation: true\n"
    engine = "name: tensorrt-llm\n    version: '1.4'\n    protocol: trtllm"
    message = fault_of(MINIMAL.replace("name: llamacpp", engine) + told)
    assert message.startswith("x.yaml:16:5: spec.routing.continuation: ")
    assert "leave it out, or choose protocol http or openengine" in message
    for fine in (told.replace("true", "false"), told.replace("continuation", "# ")):
        read_manifests((MINIMAL.replace("name: llamacpp", engine) + fine).encode(), "x.yaml")


def test_demo_example_asks_for_a_replica_on_each_of_three_planes() -> None:
    path = EXAMPLES / "demo-cpu.yaml"
    (deployment,) = read_manifests(path.read_bytes(), str(path))
    assert deployment.name == "demo"
    assert deployment.revision.base_model.served_name == "skerry-tiny"
    assert deployment.revision.shapes[0].host_memory_bytes == 256 * 2**20
    assert (deployment.scaling.min_replicas, deployment.scaling.max_replicas) == (4, 6)
    assert deployment.policy.spread == Spread(domain=FailureDomain.PLANE, domains_min=3)


def test_tensorrt_example_uses_every_technique_it_names() -> None:
    path = EXAMPLES / "llama-70b-h100-tensorrt.yaml"
    (deployment,) = read_manifests(path.read_bytes(), str(path))
    engine = deployment.revision.engine
    assert engine.name is EngineName.TENSORRT_LLM
    assert engine.quantisation.weights == "fp8"
    assert engine.speculative is not None
    assert engine.speculative.method is SpeculativeMethod.EAGLE3
    assert engine.prefix_caching.host_memory_bytes == 128 * 2**30
    assert engine.parallelism.tensor == deployment.revision.shapes[0].accelerators == 4
    assert deployment.policy.tolerate == Tolerate(domain=FailureDomain.CLOUD, keep=0.9)
    assert deployment.revision.objective.ttft_seconds == 1.5


EXAMPLE_NAMES = (
    "demo-cpu.yaml",
    "llama-70b-h100-disaggregated.yaml",
    "llama-70b-h100-tensorrt.yaml",
)


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_rendered_manifest_reads_back_as_the_same_deployment(name: str) -> None:
    deployments = read_manifests((EXAMPLES / name).read_bytes(), name)
    text = yaml.safe_dump(render_manifest(deployments[0]), sort_keys=False)
    assert read_manifests(text.encode(), "again.yaml") == deployments


def test_unknown_field_names_its_place_and_the_field_that_was_meant() -> None:
    message = fault_of(MINIMAL + "  scaling:\n    minReplcas: 2\n")
    assert message == (
        "x.yaml:13:5: spec.scaling.minReplcas: unknown field; did you mean minReplicas?"
    )


def test_all_faults_of_a_file_are_told_in_its_order() -> None:
    text = MINIMAL.replace("llamacpp", "lamacpp").replace("cpu\n", "cpu\n      count: many\n")
    lines = fault_of(text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["9", "12"]
    assert "llamacpp" in lines[0]
    assert "spec.resources[0].count: must be a whole number" in lines[1]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("  scaling: {minReplicas: 5, maxReplicas: 2}\n", "spec.scaling.minReplicas: 5 is above"),
        ("  scaling: {minReplicas: -1}\n", "spec.scaling.minReplicas: must be at least 0"),
        ("  scaling: {window: 60}\n", "spec.scaling.window: must be a time with its unit"),
        ("  scaling: {window: 0s}\n", "spec.scaling.window: must be at least 10"),
        ("  scaling: {window: 2h}\n", "spec.scaling.window: must be at most 3600"),
        ("  scaling: {scaleDownDelay: 2h}\n", "spec.scaling.scaleDownDelay: must be at most 3600"),
        ("  scaling: {strategy: guess}\n", "spec.scaling.strategy: must be 'token_work' or"),
        ("  scaling: {maxScaleDownRate: 1.5}\n", "spec.scaling.maxScaleDownRate: must be at most"),
        ("  scaling: {warmSpares: 3}\n", "spec.scaling.warmSpares: 3 above minReplicas are more"),
        ("  scaling: {paused: often}\n", "spec.scaling.paused: must be true or false"),
        (
            "  scaling: {schedules: [{cron: x, duration: 1h, minReplicas: 1}]}\n",
            "spec.scaling.schedules[0].cron: cron 'x' must be five fields",
        ),
        (
            (
                "  scaling: {schedules: [{cron: '0 8 * * *', timeZone: Mars/Dome, duration: 1h,"
                " minReplicas: 1}]}\n"
            ),
            "spec.scaling.schedules[0].timeZone: no time zone 'Mars/Dome' is known",
        ),
        (
            "  scaling: {schedules: [{cron: '0 8 * * *', duration: 1h, minReplicas: 9}]}\n",
            "spec.scaling.schedules[0].minReplicas: 9 is above maxReplicas, 1; raise that",
        ),
        (
            "  scaling: {schedules: [{cron: '0 8 * * *', duration: 5s, minReplicas: 1}]}\n",
            "spec.scaling.schedules[0].duration: must be at least 60",
        ),
        ("  scaling: {window: -5s}\n", "spec.scaling.window: must be a time with its unit"),
        ("  scaling: {maxReplicas: 1.5}\n", "spec.scaling.maxReplicas: must be a whole number"),
        ("  scaling: {targetUtilization: 1.7}\n", "must be at most 1"),
        ("  scaling: {targetUtilization: .nan}\n", "not a finite number"),
        ("  scaling: {concurrencyTarget: .inf}\n", "not a finite number"),
        ("  placement: {tolerate: {domain: galaxy, keep: 0.9}}\n", "must be 'plane', 'region'"),
        ("  placement: {tolerate: {domain: cloud, keep: 0}}\n", "must be above 0"),
        ("  placement: {regions: [NO, 1]}\n", "spec.placement.regions[1]: must be text"),
        ("  placement: {priority: 9}\n", "spec.placement.priority: must be below 4"),
        ("  placement: {capacityClasses: [cheap]}\n", "capacityClasses[0]: must be 'reserved'"),
        ("  placement: {spotShareMax: 1.5}\n", "spec.placement.spotShareMax: must be at most 1"),
        ("  placement: {spotShareMax: .nan}\n", "not a finite number"),
        ("  placement: {antiAffinity: demo}\n", "spec.placement.antiAffinity: must be a list"),
        ("  placement: {antiAffinity: [demo]}\n", "can't keep apart from itself"),
        ("  placement: {latency: [{from: eu}]}\n", "placement.latency[0].max: is required"),
        ("  placement: {latency: [{from: eu, max: 80}]}\n", "latency[0].max: must be a time"),
        ("  placement: {latency: [{from: eu, max: 0s}]}\n", "latency[0].max: must be above 0"),
        (
            "  placement: {latency: [{from: eu, max: 1s}, {from: eu, max: 2s}]}\n",
            "a client region appears twice",
        ),
        ("  placement:\n", "spec.placement: must be a mapping"),
        ("  routing: {policy: cleverest}\n", "spec.routing.policy: must be 'prefix_tokens'"),
        ("  routing: {continuation: maybe}\n", "spec.routing.continuation: must be"),
        ("  routing: {queue: {requestsMax: -1}}\n", "queue.requestsMax: must be at least 0"),
        ("  routing: {queue: {requestsMax: 5000}}\n", "must be at most 4096"),
        ("  routing: {queue: {secondsMax: 0}}\n", "queue.secondsMax: must be above 0"),
        ("  routing: {queue: {secondsMax: .nan}}\n", "not a finite number"),
        ("  objective: {ttft: fast}\n", "spec.objective.ttft: must be a time"),
        ("  speling: 1\n", "spec.speling: unknown field"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_field(extra: str, said: str) -> None:
    assert said in fault_of(MINIMAL + extra)


def test_spot_share_neighbours_and_latency_are_read_and_rendered_back() -> None:
    text = MINIMAL + (
        "  placement:\n"
        "    spotShareMax: 0.5\n"
        "    antiAffinity: [canary, batch]\n"
        "    latency: [{from: eu-west, max: 80ms}, {from: us-east, max: 1.5s}]\n"
    )
    deployments = read_manifests(text.encode(), "x")
    policy = deployments[0].policy
    assert policy.spot_share_max == 0.5
    assert policy.anti_affinity == ("canary", "batch")
    assert policy.latency == (
        LatencyLimit(client_region="eu-west", seconds_max=0.08),
        LatencyLimit(client_region="us-east", seconds_max=1.5),
    )
    again = yaml.safe_dump(render_manifest(deployments[0]), sort_keys=False)
    assert read_manifests(again.encode(), "again.yaml") == deployments
    assert deployment_from_proto(deployment_to_proto(deployments[0])) == deployments[0]


def test_region_no_stays_text() -> None:
    (deployment,) = read_manifests((MINIMAL + "  placement: {regions: [NO]}\n").encode(), "x")
    assert deployment.policy.regions == ("NO",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("demo", "Demo!", "metadata.name: deployment 'Demo!' must be"),
        ("demo", "а-demo", "metadata.name"),
        ("demo", "../etc", "metadata.name"),
        ("demo", "d" * 64, "metadata.name: must be at most 63 characters"),
        ("builtin://skerry-tiny", "meta-llama/Llama", "must be a URI such as"),
        ("skerry/v1", "skerry/v9", "apiVersion: must be 'skerry/v1'"),
        ("Deployment", "Pod", "kind: must be 'Deployment'"),
        ("kind: Deployment\n", "", "kind: is required"),
        ("llamacpp", "llamacpp\n    parallelism: {tensor: 4}", "multiple of 4"),
        (
            "llamacpp",
            "llamacpp\n    speculativeDecoding: {method: eagle3, draftTokens: 2}",
            "spec.engine.speculativeDecoding: speculative decoding by eagle3 needs",
        ),
        ("llamacpp", "llamacpp\n    options: {a: [1]}", "spec.engine.options.a: must be text"),
        ("llamacpp", "llamacpp\n    contextTokens: 99999999999", "must be at most 2147483647"),
        ("cpu\n", "cpu\n      hostMemory: 5 apples\n", "must be an amount of memory"),
        ("cpu\n", "cpu\n    - accelerator: cpu\n", "appears twice"),
        ("    - accelerator: cpu\n", "    []\n", "spec.resources: needs at least 1 entry"),
    ],
)
def test_a_file_that_is_wrong_in_one_place_says_so(old: str, new: str, said: str) -> None:
    message = fault_of(MINIMAL.replace(old, new))
    assert said in message
    assert message.startswith("x.yaml:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no document"),
        ("# only a comment\n", "holds no document"),
        ("- a\n- b\n", "must be a mapping"),
        ("just text\n", "must be a mapping"),
        ("a: [1, 2\n", "x.yaml:2:1: "),
        ("a:\n\t- tab\n", "x.yaml:2:1: "),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("kind: Deployment\nkind: Deployment\n", "was given in line 1 already"),
        ("a: &x [1]\nb: *x\n", "anchors"),
        ("a: !!python/object:os.system {}\n", "tags are not read"),
        ("[" * 1000, "nested deeper"),
        ("a: " + "9" * 5000, "does not fit 64 bits"),
    ],
)
def test_what_is_no_deployment_file_is_refused_with_its_place(text: str | bytes, said: str) -> None:
    message = fault_of(text)
    assert said in message
    assert message.startswith(("x.yaml:1:", "x.yaml:2:"))


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read_manifests(b"\xef\xbb\xbf" + MINIMAL.encode(), "x")[0].name == "demo"


def test_one_bad_document_refuses_the_whole_file() -> None:
    bad = MINIMAL.replace("name: demo", "name: Demo")
    assert "x.yaml:16:3: metadata.name: deployment 'Demo'" in fault_of(MINIMAL + "---\n" + bad)


def test_the_same_deployment_twice_in_a_file_is_refused() -> None:
    assert "is in this file twice" in fault_of(MINIMAL + "---\n" + MINIMAL)


def test_two_deployments_of_a_file_cannot_be_served_by_one_name() -> None:
    other = MINIMAL.replace("name: demo", "name: other").replace(
        "skerry-tiny\n", "skerry-tiny\n    servedName: demo\n"
    )
    message = fault_of(MINIMAL + "---\n" + other)
    assert "spec.baseModel.servedName: 'demo' is served by deployment 'demo'" in message
    assert message.startswith("x.yaml:20:5:")
