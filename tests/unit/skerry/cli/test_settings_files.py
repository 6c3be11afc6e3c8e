"""What `skerry up` writes for the fleet's processes, and what of it is the operator's own."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control_plane.settings import load_settings, policy_of
from skerry.cli.supervisor.first_key import ensure_first_key
from skerry.cli.supervisor.layout import (
    DataDirectory,
    choose_runtimes,
    read_layout,
    write_layout,
)
from skerry.cli.supervisor.settings_files import write_settings
from skerry.client.api_keys import ApiKeyRow, NewApiKey
from skerry.client.context import load_context
from skerry.client.credentials import read_api_key
from skerry.fleet.api_key import KeyTerms, key_text
from skerry.fleet.service_token import name_in
from skerry.plumbing.errors import AlreadyExists, InvalidInput
from tests.fakes.clock import FakeClock
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


def test_planes_may_join_a_fleet_and_how_long_certificates_last_is_the_operators(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    path = directory.control_plane / "settings.json"
    write_settings(directory, a_layout(), (), NOW)
    first: dict[str, Any] = json.loads(path.read_bytes())
    authority = str(directory.pki / "authority")
    joining = {
        "address": a_layout().control_planes[0].join_address,
        "authority": authority,
        "certificate_uri": "spiffe",
    }
    assert first["joining"] == joining
    told = {**joining, "certificate_seconds": 3_600, "authority": "/elsewhere"}
    path.write_text(json.dumps({**first, "joining": told}))
    write_settings(directory, a_layout(), (), NOW)
    kept = load_settings(path).joining
    assert kept is not None
    assert (kept.certificate_seconds, str(kept.authority)) == (3_600, authority)


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


def test_engines_have_the_user_that_was_asked_for_in_the_groups_that_the_operator_wrote(
    tmp_path: Path,
) -> None:
    directory, layout = DataDirectory(tmp_path), a_layout()
    path = directory.plane(layout.planes[0].name) / "settings.json"
    write_settings(directory, layout, (), NOW)
    assert "engine_user" not in json.loads(path.read_bytes())
    asked = replace(layout, engine_user="60001:60002")
    write_settings(directory, asked, (), NOW)
    first = json.loads(path.read_bytes())
    assert first["engine_user"] == {"uid": 60_001, "gid": 60_002}
    mine = {"engine_user": {"uid": 1, "groups": [44]}, "engine_environment": ["SITE"]}
    path.write_text(json.dumps({**first, **mine}))
    write_settings(directory, asked, (), NOW)
    user = read_settings(path).engine_user
    assert user is not None
    assert (user.uid, user.gid, user.groups) == (60_001, 60_002, (44,))
    assert read_settings(path).engine_environment == ("SITE",)
    write_settings(directory, layout, (), NOW)
    assert read_settings(path).engine_user is None


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


def test_gateways_of_a_new_fleet_ask_for_keys_and_those_of_an_older_one_go_on_open(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    layout = a_layout()
    settings = directory.plane(layout.planes[0].name) / "settings.json"
    write_layout(directory, layout)
    write_settings(directory, read_layout(directory), (), NOW)
    assert read_settings(settings).gateway.require_keys
    context = load_context(directory.config, None, {})
    assert context.api_key_file == directory.api_key
    assert load_context(directory.config, "127.0.0.1:9", {}).api_key_file is None
    values = json.loads(directory.layout.read_bytes())
    del values["keys"]  # a layout of a release that asked for none
    directory.layout.write_text(json.dumps(values))
    write_settings(directory, read_layout(directory), (), NOW)
    assert not read_settings(settings).gateway.require_keys
    assert load_context(directory.config, None, {}).api_key_file is None


class KeyMaker:
    """The control plane, as far as keys are made there."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    async def create_api_key(self, name: str, terms: KeyTerms) -> NewApiKey:
        assert terms.is_for_all
        if name in self.made:
            raise AlreadyExists(name)
        self.made[name] = key_text(name, f"{len(self.made):043d}")
        row = ApiKeyRow(
            name=name,
            deployments=terms.deployments,
            requests_per_minute=0,
            concurrent_requests=0,
            creator="user:test",
            created_at=NOW,
            expires_at=None,
        )
        return NewApiKey(row=row, text=self.made[name])


async def test_a_fleet_gets_its_first_key_once_and_another_when_its_file_is_lost(
    tmp_path: Path,
) -> None:
    path, maker, clock = tmp_path / "api.key", KeyMaker(), FakeClock(NOW)
    for _ in range(2):
        await ensure_first_key(path, maker, clock)  # type: ignore[arg-type]
    assert list(maker.made) == ["default"]
    assert read_api_key(path) == maker.made["default"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    await ensure_first_key(path, maker, clock)  # type: ignore[arg-type]
    assert list(maker.made) == ["default", "default-20300101000000"]
    assert read_api_key(path) == maker.made["default-20300101000000"]
    path.write_text("no key")
    with pytest.raises(InvalidInput, match="holds no API key"):
        read_api_key(path)


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
