"""`skerry bundle` takes in what helps, says what it leaves out, and never takes in a secret."""

import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.cli.main import run
from skerry.cli.session import EXIT_USAGE
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.settings_files import write_settings
from skerry.cli.support import archive as archives
from skerry.cli.support.archive import Archive
from skerry.cli.support.shown import (
    CONTROL_PLANE,
    LEFT_OUT,
    PLANE,
    looks_secret,
    shown_settings,
)
from tests.unit.skerry.cli.conftest import OperatorApi
from tests.unit.skerry.cli.test_pki import a_layout

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CANARY = "canary-3f9a"
TOKEN = "skt_ci_" + "A1b2" * 10 + "xyz"


def read(path: Path) -> dict[str, bytes]:
    """Return the files of an archive by their names."""
    with tarfile.open(path) as tar:
        files = {}
        for member in tar.getmembers():
            content = tar.extractfile(member)
            assert content is not None
            assert member.mode == 0o600
            files[member.name.removeprefix("skerry-bundle/")] = content.read()
        return files


def a_fleet(root: Path) -> DataDirectory:
    """Make a data directory as `skerry up` does, with secrets wherever one may get to."""
    directory = DataDirectory(root)
    layout = a_layout()
    write_settings(directory, layout, (), NOW)
    settings = directory.control_plane / "settings.json"
    values: dict[str, Any] = json.loads(settings.read_bytes())
    values["database_url"] = f"postgresql://skerry:{CANARY}@db/skerry"
    values["operator_access"]["oidc"] = {"client_secret": CANARY}
    values["a_setting_of_tomorrow"] = {"password": CANARY}
    settings.write_text(json.dumps(values))
    (directory.control_plane / "log").write_text("plan.applied actions=3\n")
    plane = directory.plane(layout.planes[0].name)
    told: dict[str, Any] = json.loads((plane / "settings.json").read_bytes())
    told["labels"], told["model_cache"] = {"note": CANARY}, {"credential": CANARY}
    (plane / "settings.json").write_text(json.dumps(told))
    for folder in ("listeners", "secrets", "copies/secrets"):
        (plane / "gateway" / folder).mkdir(parents=True, exist_ok=True)
    (plane / "gateway" / "listeners" / "listeners.json").write_text('{"name": "public"}')
    for folder in ("secrets", "copies/secrets"):
        (plane / "gateway" / folder / "tls.json").write_text(json.dumps({"key": CANARY}))
    (plane / "logs" / "agent.log").write_text("agent.started\n")
    (plane / "logs" / "picker.log").write_text(f"somebody logged authorization={TOKEN}\n")
    owned = directory.operator_token.read_text().strip()
    (plane / "logs" / "relay.log").write_text(f"somebody logged the owner's {owned}\n")
    (plane / "logs" / "chat-r1-aaaaaa").mkdir()
    (plane / "logs" / "chat-r1-aaaaaa" / "engine.log").write_text(f"prompt: {CANARY}\n")
    (root / "elsewhere").write_text(CANARY)
    (plane / "agent.json").symlink_to("/etc/hostname")
    return directory


# It waits some seconds for a control plane that does not come.
@pytest.mark.integration
def test_no_secret_is_inside_and_a_dead_control_plane_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKERRY_CONFIG", raising=False)
    directory = a_fleet(tmp_path / "fleet")
    keys = [path.read_bytes() for path in directory.pki.glob("**/*.key")]
    assert keys, "there are keys that could be told"
    file = tmp_path / "bundle.tar.gz"
    assert run(["bundle", "-o", str(file), "--config", str(directory.config)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    files = read(file)
    everything = b"\n".join(files.values())
    for secret in (CANARY, TOKEN, directory.operator_token.read_text().strip()):
        assert secret.encode() not in everything
    for key in keys:
        assert not any(line in everything for line in key.splitlines())
    plane = a_layout().planes[0].name
    assert {
        "manifest.json",
        "disk/control-plane/log",
        "disk/control-plane/settings.json",
        f"disk/planes/{plane}/settings.json",
        f"disk/planes/{plane}/logs/agent.log",
        f"disk/planes/{plane}/gateway/listeners/listeners.json",
    } <= files.keys()
    manifest = json.loads(files["manifest.json"])
    assert {one["name"] for one in manifest["files"]} == files.keys() - {"manifest.json"}
    left_out = {one["what"]: one["why"] for one in manifest["left_out"]}
    assert "operator API" in left_out["api/"]
    assert "secret" in left_out[f"disk/planes/{plane}/logs/picker.log"]
    assert "secret" in left_out[f"disk/planes/{plane}/logs/relay.log"]
    assert "left out: api/" in capsys.readouterr().out


@pytest.mark.integration
def test_what_the_control_plane_tells_is_inside_also_without_a_data_directory(
    api: OperatorApi, tmp_path: Path
) -> None:
    api.answers["ListPlanes"] = pb.ListPlanesResponse()
    file = tmp_path / "bundle.tar.gz"
    assert api.run("bundle", "-o", str(file)) == 0
    files = read(file)
    assert {"api/planes.json", "api/deployments.json", "api/changes.json"} <= files.keys()
    manifest = json.loads(files["manifest.json"])
    assert [one["what"] for one in manifest["left_out"]] == ["disk/, metrics/"]
    assert manifest["software"].startswith("skerry")


def test_a_data_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    assert run(["bundle", "--data-dir", str(tmp_path / "none")]) == EXIT_USAGE


@given(
    values=st.recursive(
        st.just(CANARY) | st.integers() | st.booleans(),
        lambda below: (
            st.lists(below, max_size=3)
            | st.dictionaries(
                st.text(max_size=8) | st.sampled_from(("tls", "labels", "database_url")),
                below,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_a_setting_that_is_on_no_list_is_not_shown(values: object) -> None:
    for shown in (CONTROL_PLANE, PLANE):
        assert CANARY not in json.dumps(shown_settings({"unheard_of": values}, shown))
        assert CANARY not in json.dumps(shown_settings({"pools": [{"secret": values}]}, shown))
        # What should be a plain value and is not could hold anything.
        assert CANARY not in json.dumps(shown_settings({"name": {"below": values}}, shown))


def test_a_setting_on_the_list_is_shown_and_others_are_told_to_be_there() -> None:
    values = {"name": "one", "tls": {"key": "k"}, "scheduler": {"moves_max": 3, "new": 1}}
    assert shown_settings(values, CONTROL_PLANE) == {
        "name": "one",
        "tls": LEFT_OUT,
        "scheduler": {"moves_max": 3, "new": LEFT_OUT},
    }


@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN EC PRIVATE KEY-----",
        TOKEN.encode(),
        b"url=postgresql://me:hunter2@db/skerry",
        b"sks_" + b"A1b2" * 10 + b"xyz",
        b"what is known",
    ],
)
def test_what_looks_like_a_secret_is_seen(data: bytes) -> None:
    assert looks_secret(b"before " + data + b" after", frozenset({b"what is known"}))


def test_addresses_and_names_do_not_look_like_secrets() -> None:
    text = b"http://127.0.0.1:80/metrics postgresql://me@db/skerry skt_ a@b"
    assert not looks_secret(text, frozenset())


def test_an_archive_is_bounded_and_says_what_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FILE_BYTES_MAX", 10)
    monkeypatch.setattr(archives, "TOTAL_BYTES_MAX", 25)
    archive = Archive(is_secret=lambda _: False)
    for name in ("a", "b", "c"):
        archive.add(name, b"0123456789abcdef")
    manifest = archive.manifest(NOW, {})
    assert archive.files == {"a": b"6789abcdef", "b": b"6789abcdef"}
    assert manifest["files"][0] == {"name": "a", "bytes": 10, "bytes_before": 16}
    assert manifest["left_out"] == [{"what": "c", "why": "the archive is full"}]
