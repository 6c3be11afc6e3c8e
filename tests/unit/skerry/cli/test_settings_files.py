"""What `skerry up` writes for the fleet's processes, and what of it is the operator's own."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from control_plane.settings import load_settings, policy_of
from skerry.cli.supervisor.layout import DataDirectory, choose_runtimes
from skerry.cli.supervisor.settings_files import write_settings
from skerry.client.context import load_context
from skerry.fleet.service_token import name_in
from tests.unit.skerry.cli.test_pki import a_layout
from workload_plane.settings import read_settings

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_what_the_operator_told_the_scheduler_stays_and_the_rest_is_written_anew(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    write_settings(directory, a_layout(), (), NOW)
    first: dict[str, Any] = json.loads(path.read_bytes())
    assert "scheduler" not in first
    path.write_text(json.dumps({**first, "name": "mine", "scheduler": {"moves_max": 3}}))
    write_settings(directory, a_layout(), (), NOW)
    assert json.loads(path.read_bytes()) == {**first, "scheduler": {"moves_max": 3}}
    assert policy_of(load_settings(path)).moves_max == 3


def test_a_plane_on_ray_gets_a_head_of_its_own_and_keeps_what_was_told_of_it(
    tmp_path: Path,
) -> None:
    directory, ports = DataDirectory(tmp_path), itertools.count(20_000)
    layout = choose_runtimes(a_layout(), ("ray",), lambda: next(ports))
    name = layout.planes[0].name
    path = directory.plane(name) / "settings.json"
    write_settings(directory, layout, (), NOW)
    ray = read_settings(path).ray
    assert ray is not None
    assert (ray.starts_head, ray.port) == (True, layout.planes[0].ports.ray)
    told = {"port": ray.port, "nodes": [{"name": n, "pool": "cpu"} for n in ("n1", "n2")]}
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "ray": told}))
    write_settings(directory, layout, (), NOW)
    assert json.loads(path.read_bytes())["ray"] == told
    write_settings(directory, choose_runtimes(layout, ("local",), lambda: 1), (), NOW)
    assert read_settings(path).ray is None


def test_damaged_settings_are_written_anew(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    for damage in ("", "[]", "{"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(damage)
        write_settings(directory, a_layout(), (), NOW)
        load_settings(path)


def test_the_fleets_owner_gets_a_token_that_stays_and_what_was_told_of_an_issuer_too(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    write_settings(directory, a_layout(), (), NOW)
    token = directory.operator_token.read_text().strip()
    assert name_in(token) == "bootstrap"
    assert directory.operator_token.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text() + directory.config.read_text()
    access = load_settings(path).operator_access
    assert access.required
    assert access.bootstrap_token_file == directory.operator_token
    oidc = {"issuer": "https://a", "audience": "b", "jwks_url": "https://a/keys"}
    written = json.loads(path.read_bytes())
    written["operator_access"]["oidc"] = oidc
    path.write_text(json.dumps(written))
    write_settings(directory, a_layout(), (), NOW)
    assert directory.operator_token.read_text().strip() == token
    kept = load_settings(path).operator_access.oidc
    assert kept is not None
    assert kept.issuer == "https://a"
    assert load_context(directory.config, None, {}).token_file == directory.operator_token


def test_nobody_is_asked_for_a_credential_where_that_was_asked_for(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    write_settings(directory, replace(a_layout(), auth=False), (), NOW)
    access = load_settings(directory.control_plane / "settings.json").operator_access
    assert (access.required, access.bootstrap_token_file) == (False, None)
    assert load_context(directory.config, None, {}).token_file is None
    assert not directory.operator_token.exists()


def test_with_tls_the_api_shows_the_fleets_certificate_and_clients_know_its_name(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    write_settings(directory, a_layout(), (), NOW)
    assert load_settings(path).operator_tls is None
    assert load_context(directory.config, None, {}).ca_file is None
    write_settings(directory, replace(a_layout(), tls=True), (), NOW)
    settings = load_settings(path)
    assert settings.operator_tls is not None
    assert settings.operator_tls.certificate == settings.tls.certificate
    context = load_context(directory.config, None, {})
    assert context.ca_file is not None
    assert context.ca_file.read_bytes() == settings.tls.ca.read_bytes()
    assert context.server_name == "control-plane.skerry.internal"
