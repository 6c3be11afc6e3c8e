"""docker-compose.yml starts only what is pinned, without root, and holds no secret."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.settings import load_settings
from deploy.compose_authority import CONTROL_PLANES, PLANES, ensure_secrets, faults
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from tests.unit.deploy.files import DEPLOY, ROOT, unknown_parts
from workload_plane.settings import read_settings

FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_healthy_and_not_roots(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert "build" in service or any(character.isdigit() for character in tag)
    assert int(service["user"].partition(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "test" in service["healthcheck"] or name == "cli"
    assert unknown_parts(service.get("command", [])) == []
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for key, value in service.get("environment", {}).items():
        assert "PASSWORD" not in key or value.startswith("/etc/skerry/secrets/")


def test_a_plane_meets_control_planes_on_its_own_network_alone() -> None:
    for name in PLANES:
        assert set(SERVICES[f"plane-{name}"]["networks"]) == {"peers", f"link-{name}"}
        assert FILE["networks"][f"link-{name}"] == {"internal": True}
    for name in CONTROL_PLANES:
        assert {f"link-{plane}" for plane in PLANES} < set(SERVICES[name]["networks"])
        assert "peers" not in SERVICES[name]["networks"]


def test_only_the_authority_has_the_key_and_it_has_no_network() -> None:
    holders = [n for n, s in SERVICES.items() if any("authority:" in v for v in s["volumes"])]
    assert (holders, SERVICES["authority"]["network_mode"]) == (["authority"], "none")


def test_the_settings_are_taken() -> None:
    for name in CONTROL_PLANES:
        assert load_settings(DEPLOY / "compose" / f"{name}.json").name == name
    for name in PLANES:
        assert read_settings(DEPLOY / "compose" / f"{name}.json").plane == name


def test_secrets_are_made_once_renewed_and_for_their_owner_alone(tmp_path: Path) -> None:
    ids = SystemIds(SystemClock())
    assert list(faults(tmp_path, NOW))
    ensure_secrets(tmp_path, NOW, ids)
    assert list(faults(tmp_path, NOW)) == []
    token = (tmp_path / "operator" / "operator.token").read_bytes()
    old = (tmp_path / "fra" / "fra.pem").read_bytes()
    ensure_secrets(tmp_path, NOW + timedelta(days=20), ids)
    assert (tmp_path / "control-b" / "operator.token").read_bytes() == token
    assert (tmp_path / "fra" / "fra.pem").read_bytes() != old
    for name in ("operator.token", "pgpass", "control-a.key"):
        assert (tmp_path / "control-a" / name).stat().st_mode & 0o077 == 0


def test_the_images_lock_is_a_part_of_the_lock() -> None:
    lock = set((ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines())
    image = (DEPLOY / "image.lock").read_text(encoding="utf-8").splitlines()
    assert {line.rstrip(" \\") for line in image} <= {line.rstrip(" \\") for line in lock}
    assert json.loads((DEPLOY / "compose" / "fra.json").read_bytes())["gateway"]["require_keys"]
