"""What every renderer promises, for each engine and each release that it knows."""

import json
from dataclasses import replace

import pytest
import yaml

from skerry.fleet.engine import Disaggregation, EngineName, EngineSpec, Lora, LoraAdapter
from workload_plane.engines.catalogue import RENDERERS, refusals, render
from workload_plane.engines.port import (
    ADAPTER_DIALECTS,
    Dialect,
    EngineLaunch,
    LaunchParameters,
)
from workload_plane.replica_host.dialects import DIALECTS
from workload_plane.replica_host.ending import STOP_SECONDS_MAX, end_seconds_max

RELEASES = [
    (name, version)
    for name, renderer in RENDERERS.items()
    for version in (renderer.VERSIONS or (None,))
]
FRENCH = LoraAdapter(name="french", uri="hf://owner/french")
PLACE = LaunchParameters(
    model_path="/models/a b; rm -rf $HOME",
    served_name="chat",
    host="127.0.0.1",
    http_port=8123,
    config_dir="/replica/config",
    python="/usr/bin/python3",
)


@pytest.fixture(params=RELEASES, ids=lambda release: f"{release[0]}-{release[1]}")
def spec(request: pytest.FixtureRequest) -> EngineSpec:
    name, version = request.param
    return EngineSpec(name=name, version=version)


@pytest.fixture
def launch(spec: EngineSpec) -> EngineLaunch:
    return render(spec, PLACE)


def test_its_default_is_one_of_its_releases(spec: EngineSpec) -> None:
    renderer = RENDERERS[spec.name]
    assert renderer.DEFAULT_VERSION in (renderer.VERSIONS or ("",))


def test_the_command_is_a_list_of_words_and_no_shell(launch: EngineLaunch) -> None:
    assert all(isinstance(word, str) and word for word in launch.argv)
    assert launch.argv[0] in ("/usr/bin/python3", "trtllm-serve", "vllm")
    assert not any(word in ("sh", "-c", "bash") for word in launch.argv)


def test_a_base_models_path_stays_one_word_whatever_is_in_it(
    spec: EngineSpec, launch: EngineLaunch
) -> None:
    if spec.name is EngineName.LLAMACPP:
        assert json.loads(launch.files[0][1])["model_path"] == PLACE.model_path
    elif spec.name is not EngineName.SIMULATED:  # which has none
        assert PLACE.model_path in launch.argv


def test_the_engine_listens_where_it_is_told(launch: EngineLaunch) -> None:
    said = " ".join([*launch.argv, *(text for _, text in launch.files)])
    assert "8123" in said
    assert "127.0.0.1" in said


def test_files_have_plain_names_and_are_read_as_what_they_are(launch: EngineLaunch) -> None:
    for name, text in launch.files:
        assert "/" not in name
        read = json.loads if name.endswith(".json") else yaml.safe_load
        assert isinstance(read(text), dict)


def test_it_can_be_watched_and_ended(launch: EngineLaunch) -> None:
    assert launch.drain.kill_after_seconds > 0
    assert launch.startup_seconds_max > launch.drain.kill_after_seconds
    assert launch.dialect in DIALECTS
    assert launch.dialect is not Dialect.OPENAI  # of whoever has no dialect of its own
    assert launch.health_path.startswith("/")
    assert launch.metrics_path.startswith("/")
    # What waits and runs comes of one place, or of none: half of it would pass for the load.
    metrics = launch.load_metrics
    assert bool(metrics.running_requests) == bool(metrics.queued_requests)
    assert bool(metrics.running_requests) or bool(metrics.first_tokens)


def test_an_adapter_that_it_is_started_with_is_one_that_a_request_may_name(
    spec: EngineSpec,
) -> None:
    with_adapters = replace(spec, lora=Lora(adapters=(FRENCH,)))
    if spec.name is not EngineName.SIMULATED and not refusals(with_adapters):
        assert render(with_adapters, PLACE).dialect in ADAPTER_DIALECTS


def test_it_ends_in_order_before_it_is_killed(spec: EngineSpec, launch: EngineLaunch) -> None:
    assert end_seconds_max(launch) <= STOP_SECONDS_MAX
    apart = replace(spec, disaggregation=Disaggregation(prefill_replicas=2, decode_replicas=2))
    if not refusals(apart):
        several = render(apart, replace(PLACE, worker_ports=(1, 2, 3, 4)))
        assert len(several.workers) == (0 if spec.name is EngineName.SIMULATED else 4)
        assert end_seconds_max(launch) <= end_seconds_max(several) <= STOP_SECONDS_MAX


def test_accelerators_are_named_to_the_engine_and_to_no_other_process(spec: EngineSpec) -> None:
    launch = render(spec, replace(PLACE, accelerators=(2, 5)))
    shown = dict(launch.environment).get("CUDA_VISIBLE_DEVICES")
    assert shown == (None if spec.name is EngineName.SIMULATED else "2,5")
    assert "CUDA_VISIBLE_DEVICES" not in dict(render(spec, PLACE).environment)


def test_rendering_twice_gives_the_same(spec: EngineSpec, launch: EngineLaunch) -> None:
    assert render(spec, PLACE) == launch


def test_an_option_off_the_list_is_refused_by_its_field(spec: EngineSpec) -> None:
    (refusal,) = refusals(replace(spec, options=(("trust_remote_code", "true"),)))
    assert refusal.path == "spec.engine.options"
    assert refusal.message.startswith(spec.name)


def test_a_release_that_it_does_not_know_is_refused_by_its_field(spec: EngineSpec) -> None:
    (refusal,) = refusals(replace(spec, version="0.0.7"))
    assert refusal.path == "spec.engine.version"
