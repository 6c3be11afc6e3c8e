"""The agent's door: publish, and the first start."""

import json
from pathlib import Path

import pytest

from skerry.plumbing.errors import Conflict, InvalidInput
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
)
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.files import load_published
from workload_plane.gateway.publish import ensure_initial, publish
from workload_plane.gateway.resources import build_snapshot
from workload_plane.gateway.topology import GatewayTopology, PeerTls


@pytest.fixture
def tls(tmp_path: Path) -> PeerTls:
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text("")
    return PeerTls(
        certificate_path=str(tmp_path / "cert.pem"),
        key_path=str(tmp_path / "key.pem"),
        authority_path=str(tmp_path / "ca.pem"),
    )


def served(tls: PeerTls, *names: str) -> GatewayTopology:
    models = [a_model(name, a_replica(f"{name}-1"), peers=("b",)) for name in names]
    return a_topology(*models, tls=tls)


def test_what_was_published_can_be_read_back(tmp_path: Path, tls: PeerTls) -> None:
    folder = tmp_path / "gateway"
    result = publish(served(tls, "chat"), folder, DESCRIPTOR_SET)
    snapshot = build_snapshot(served(tls, "chat"), str(folder), DESCRIPTOR_SET)
    read = load_published(folder)
    assert read is not None
    assert json.loads(json.dumps(read.listeners)) == json.loads(json.dumps(snapshot.listeners))
    assert sorted(e["cluster_name"] for e in read.endpoints) == sorted(
        e["cluster_name"] for e in snapshot.endpoints
    )
    assert set(result.versions) == set(result.changed)
    assert not result.bootstrap_proposed, "the first is in force at once"


def test_publishing_twice_changes_nothing(tmp_path: Path, tls: PeerTls) -> None:
    folder = tmp_path / "gateway"
    publish(served(tls, "chat"), folder, DESCRIPTOR_SET)
    again = publish(served(tls, "chat"), folder, DESCRIPTOR_SET)
    assert again.changed == ()
    assert not again.bootstrap_proposed


def test_a_refused_publish_leaves_the_last_one(tmp_path: Path, tls: PeerTls) -> None:
    folder = tmp_path / "gateway"
    before = publish(served(tls, "chat", "code"), folder, DESCRIPTOR_SET)
    with pytest.raises(Conflict, match="tombstones"):
        publish(served(tls), folder, DESCRIPTOR_SET)
    assert publish(served(tls, "chat", "code"), folder, DESCRIPTOR_SET).changed == ()
    gone = frozenset({"chat", "code", "chat-1", "code-1"})
    after = publish(served(tls), folder, DESCRIPTOR_SET, gone)
    assert set(after.versions) < set(before.versions)


def test_a_missing_certificate_is_named(tmp_path: Path, tls: PeerTls) -> None:
    Path(tls.key_path).unlink()
    with pytest.raises(InvalidInput, match=r"key\.pem does not exist"):
        publish(served(tls), tmp_path / "gateway", DESCRIPTOR_SET)


def test_a_first_start_serves_nothing_and_a_later_one_keeps_what_is_there(
    tmp_path: Path, tls: PeerTls
) -> None:
    folder = tmp_path / "gateway"
    assert "listeners/listeners.json" in ensure_initial(served(tls, "chat"), folder, DESCRIPTOR_SET)
    first = load_published(folder)
    assert first is not None
    assert first.endpoints == ()
    published = publish(served(tls, "chat"), folder, DESCRIPTOR_SET)
    assert ensure_initial(served(tls), folder, DESCRIPTOR_SET) == ()
    assert publish(served(tls, "chat"), folder, DESCRIPTOR_SET).versions == published.versions


def test_a_start_repairs_what_is_torn(tmp_path: Path, tls: PeerTls) -> None:
    folder = tmp_path / "gateway"
    published = publish(served(tls, "chat"), folder, DESCRIPTOR_SET)
    (folder / "clusters/clusters.json").write_text("{")
    (folder / "endpoints/chat/http.json").unlink()
    restored = ensure_initial(served(tls), folder, DESCRIPTOR_SET)
    assert restored == ("clusters/clusters.json", "endpoints/chat/http.json")
    assert publish(served(tls, "chat"), folder, DESCRIPTOR_SET).versions == published.versions


def test_envoy_is_started_from_the_folder_alone(tmp_path: Path) -> None:
    argv = envoy_argv(tmp_path, log_path=tmp_path / "envoy.log")
    assert Path(argv[0]).name == "envoy"
    assert argv[argv.index("--config-path") + 1] == str(tmp_path.resolve() / "bootstrap.json")
    assert {"--disable-hot-restart", "--reject-unknown-dynamic-fields"} < set(argv)
