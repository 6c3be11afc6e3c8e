"""`skerry engine render` shows what would be started, from a file alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.main import run
from skerry.cli.session import EXIT_USAGE

FILE = """\
apiVersion: skerry/v1
kind: Deployment
metadata:
  name: chat
spec:
  baseModel:
    uri: hf://maker/llama
  engine:
    name: tensorrt-llm
    version: "1.2"
    speculativeDecoding:
      method: mtp
      draftTokens: 2
  resources:
    - accelerator: H100-80G
"""
APART = FILE.replace(
    "  resources:",
    "    disaggregation: {prefillReplicas: 1, decodeReplicas: 1}\n  resources:",
).replace("accelerator: H100-80G", "{accelerator: H100-80G, count: 2}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(FILE)
    return path


def rendered(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert run(["engine", "render", "-o", "json", *words]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_json_is_a_list_of_processes_with_words_files_and_environment(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (process,) = rendered(capsys, "-f", str(file), "--config-dir", "/etc/chat", "--port", "8100")
    assert process["deployment"] == "chat"
    assert process["argv"] == [
        *("trtllm-serve", "serve", "maker/llama", "--host", "127.0.0.1", "--port", "8100"),
        *("--tp_size", "1", "--pp_size", "1", "--config", "/etc/chat/trtllm.yaml"),
    ]
    assert "num_nextn_predict_layers: 2" in process["files"]["trtllm.yaml"]
    assert process["env"] == {}


def test_another_version_is_rendered_in_place_of_the_files(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (process,) = rendered(capsys, "-f", str(file), "--engine-version", "1.4")
    assert "max_draft_len: 2" in process["files"]["trtllm.yaml"]


def test_an_engine_that_is_passed_through_is_shown_on_the_port_after_the_replicas(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.replace('"1.2"', '"1.4"\n    protocol: openengine'))
    (process,) = rendered(capsys, "-f", str(file), "--port", "8000")
    assert "--grpc-protocol" in process["argv"]
    assert process["argv"][process["argv"].index("--port") + 1] == "8001"


def test_a_replica_of_several_processes_has_an_entry_for_each(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(APART)
    processes = rendered(capsys, "-f", str(file))
    assert [one["process"] for one in processes] == ["context-0", "generation-0", "proxy"]
    assert [list(one["files"]) for one in processes] == [
        *(["context.yaml"], ["generation.yaml"], ["disaggregated.yaml"])
    ]


def test_people_see_a_command_that_a_shell_takes_and_the_files(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["engine", "render", "-f", str(file), "--model-path", "/models/my llama"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# chat: engine"
    assert lines[1].startswith("trtllm-serve serve '/models/my llama' --host 127.0.0.1")
    assert "# file trtllm.yaml" in lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine-version", "0.9"), "spec.engine.version: tensorrt-llm 1.2: 0.9 is not known"),
        (("--engine-version", "newest"), "must look like 1.2"),
    ],
)
def test_a_refusal_is_a_usage_fault_that_names_the_field(
    words: tuple[str, ...], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["engine", "render", "-f", str(file), *words]) == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_ports_past_the_last_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(APART)
    assert run(["engine", "render", "-f", str(file), "--port", "65534"]) == EXIT_USAGE
    assert "2 servers take the ports after it" in capsys.readouterr().err
