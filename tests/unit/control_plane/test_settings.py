"""The control plane's settings: read whole or refused by field; the scheduler hears them."""

import json
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control_plane.api.access.authenticator import bootstrap_digest
from control_plane.reconcile.failover import judge
from control_plane.reconcile.problem import placement_problem
from control_plane.settings import load_settings, policy_of, read_settings
from scheduler.problem import RegionLatency
from skerry.fleet.service_token import digest_of_token
from skerry.plumbing.errors import InvalidInput
from tests.builders import a_demand, a_plane_view, a_snapshot
from tests.unit.control_plane.api.access.credentials import BOOTSTRAP

GOOD: dict[str, Any] = {
    "name": "cp",
    "database_url": "sqlite:///x.db",
    "operator_address": "127.0.0.1:1",
    "link_address": "0.0.0.0:2",
    "http_address": "127.0.0.1:3",
    "tls": {"ca": "/ca", "certificate": "/cert", "key": "/key"},
}
NEAR = {"client_region": "eu", "plane_region": "fra", "milliseconds": 12.5}


def written(path: Path, **scheduler: Any) -> Path:
    path = path / "settings.json"
    path.write_text(json.dumps({**GOOD, "scheduler": scheduler}))
    return path


def test_the_scheduler_is_bound_by_what_the_settings_say(tmp_path: Path) -> None:
    path = written(tmp_path, moves_max=2, reserve_fraction=0.25, region_latencies=[NEAR])
    policy = policy_of(load_settings(path))
    snapshot = replace(a_snapshot(a_plane_view(), demands=(a_demand(),)), policy=policy)
    problem = placement_problem(snapshot, judge(snapshot))
    assert problem.moves_max == 2
    assert problem.reserve_fraction == 0.25
    assert problem.latencies == (
        RegionLatency(client_region="eu", plane_region="fra", seconds=0.0125),
    )


def test_without_a_scheduler_section_nothing_binds(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(GOOD))
    policy = policy_of(load_settings(path))
    assert (policy.moves_max, policy.reserve_fraction, policy.latencies) == (None, 0.0, ())


@pytest.mark.parametrize(
    ("scheduler", "field"),
    [
        ({"moves_max": -1}, "scheduler.moves_max"),
        ({"moves_max": 1.5}, "scheduler.moves_max"),
        ({"moves_max": True}, "scheduler.moves_max"),
        ({"reserve_fraction": 1.0}, "scheduler.reserve_fraction"),
        ({"reserve_fraction": -0.1}, "scheduler.reserve_fraction"),
        ({"reserve_fraction": float("nan")}, "scheduler.reserve_fraction"),
        (
            {"region_latencies": [{**NEAR, "milliseconds": float("inf")}]},
            "scheduler.region_latencies.0.milliseconds",
        ),
        (
            {"region_latencies": [{**NEAR, "milliseconds": -1}]},
            "scheduler.region_latencies.0.milliseconds",
        ),
        (
            {"region_latencies": [{**NEAR, "client_region": ""}]},
            "scheduler.region_latencies.0.client_region",
        ),
        ({"region_latencies": [NEAR, NEAR]}, "scheduler.region_latencies"),
        ({"movesmax": 1}, "scheduler.movesmax"),
    ],
)
def test_a_bad_value_is_refused_at_its_field(
    tmp_path: Path, scheduler: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput, match=r"settings .*settings\.json are wrong") as refused:
        load_settings(written(tmp_path, **scheduler))
    assert refused.value.field == field


JOINING = {"address": "0.0.0.0:4", "authority": "/authority"}


def test_nobody_joins_unless_the_settings_say_where(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(GOOD))
    assert load_settings(path).joining is None
    path.write_text(json.dumps({**GOOD, "joining": JOINING}))
    joining = load_settings(path).joining
    assert joining is not None
    assert joining.certificate_seconds == 30 * 86_400


@pytest.mark.parametrize(
    ("joining", "field"),
    [
        ({"address": "0.0.0.0:4"}, "joining.authority"),
        ({**JOINING, "certificate_seconds": 9}, "joining.certificate_seconds"),
        ({**JOINING, "certificate_seconds": 1e9}, "joining.certificate_seconds"),
        ({**JOINING, "authorities": "/a"}, "joining.authorities"),
    ],
)
def test_a_bad_way_to_join_is_refused_at_its_field(
    tmp_path: Path, joining: dict[str, Any], field: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**GOOD, "joining": joining}))
    with pytest.raises(InvalidInput) as refused:
        load_settings(path)
    assert refused.value.field == field


OIDC = {"issuer": "https://a", "audience": "b", "jwks_url": "https://a/keys"}


@pytest.mark.parametrize(
    ("access", "field"),
    [
        ({"required": True}, "operator_access.required"),
        ({"requires": True}, "operator_access.requires"),
        ({"oidc": {**OIDC, "jwks_url": "http://a/keys"}}, "operator_access.oidc.jwks_url"),
        ({"oidc": {**OIDC, "jwks_url": "file:///keys"}}, "operator_access.oidc.jwks_url"),
        ({"oidc": {**OIDC, "jwks_url": "https://[:1/keys"}}, "operator_access.oidc.jwks_url"),
        ({"oidc": {**OIDC, "algorithms": ["HS256"]}}, "operator_access.oidc.algorithms"),
        ({"oidc": {**OIDC, "algorithms": ["none"]}}, "operator_access.oidc.algorithms"),
        ({"oidc": {**OIDC, "issuer": ""}}, "operator_access.oidc.issuer"),
        (
            {"oidc": {**OIDC, "grants": [{"claim": "g", "value": "v", "role": "viewer"}]}},
            "operator_access.oidc.grants.0.projects",
        ),
        (
            {
                "oidc": {
                    **OIDC,
                    "grants": [{"claim": "g", "value": "v", "role": "plane", "projects": ["*"]}],
                }
            },
            "operator_access.oidc.grants.0",
        ),
    ],
)
def test_who_may_call_is_said_whole_or_refused(
    tmp_path: Path, access: dict[str, Any], field: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**GOOD, "operator_access": access}))
    with pytest.raises(InvalidInput) as refused:
        load_settings(path)
    assert refused.value.field == field


def test_an_issuer_is_read_with_what_its_claims_are_granted(tmp_path: Path) -> None:
    grants = [{"claim": "g", "value": "v", "role": "operator", "projects": ["*"]}]
    path = tmp_path / "settings.json"
    told = {"required": True, "oidc": {**OIDC, "grants": grants}}
    path.write_text(json.dumps({**GOOD, "operator_access": told}))
    oidc = load_settings(path).operator_access.oidc
    assert oidc is not None
    assert oidc.grants[0].grant().role.value == "operator"


CLOSED = {"required": True, "oidc": OIDC}
SERVED = {"certificate": "/cp.pem", "key": "/cp.key"}


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({}, "operator_address"),
        ({"operator_access": CLOSED}, "operator_address"),
        ({"operator_tls": SERVED}, "operator_access.required"),
        (
            {"operator_tls": {"certificate": "/cp.pem"}, "operator_access": CLOSED},
            "operator_tls.key",
        ),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "cp.example.com", "[::]"])
def test_an_operators_port_that_others_reach_has_tls_and_asks_who_calls(
    tmp_path: Path, told: dict[str, Any], field: str, host: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**GOOD, "operator_address": f"{host}:1", **told}))
    with pytest.raises(InvalidInput) as refused:
        load_settings(path)
    assert refused.value.field == field


def test_with_both_it_may_listen_where_others_reach_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    told = {"operator_address": "0.0.0.0:1", "operator_tls": SERVED, "operator_access": CLOSED}
    path.write_text(json.dumps({**GOOD, **told}))
    tls = load_settings(path).operator_tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (Path("/cp.pem"), Path("/cp.key"))


@pytest.mark.parametrize("data", [b"{", b'{"name": "\xff"}', b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="cannot read settings"):
        load_settings(path)


JOINING = {"address": "127.0.0.1:9", "authority": "/pki"}


def with_keys(path: Path, *keys: str) -> Path:
    path = path / "settings.json"
    path.write_text(json.dumps({**GOOD, "joining": {**JOINING, "sealing_keys": keys}}))
    return path


def test_sealing_keys_are_read_where_the_settings_say_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sks_" + "a" * 42 + "A"
    monkeypatch.setenv("SEALING", key)
    path = with_keys(tmp_path, "env:SEALING")
    read, loaded = read_settings(path).joining, load_settings(path)
    assert read is not None
    assert read.sealing_keys == ("env:SEALING",)
    assert loaded.joining is not None
    assert loaded.joining.sealing_keys == (key,)
    assert key not in repr(loaded)


def test_a_sealing_key_itself_is_refused_by_its_field_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"joining\.sealing_keys") as refused:
        load_settings(with_keys(tmp_path, "sks_" + "a" * 43))
    assert "aaa" not in str(refused.value)


def test_what_is_no_sealing_key_ends_the_start_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALING", "canaryofthesealing00001")
    with pytest.raises(InvalidInput, match="sealing key 1") as refused:
        load_settings(with_keys(tmp_path, "env:SEALING"))
    assert "canary" not in str(refused.value)


def test_no_setting_shows_the_databases_password_not_even_where_another_is_wrong(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.json"
    secret = {**GOOD, "database_url": "postgresql://me:canary001@db/skerry"}
    path.write_text(json.dumps(secret))
    assert "canary001" not in repr(load_settings(path))
    for wrong in ({"name": None}, {"unknown": 1}, {"database_url": ["canary001"]}):
        path.write_text(json.dumps({**secret, **wrong}))
        with pytest.raises(InvalidInput) as refused:
            load_settings(path)
        shown = "".join(traceback.format_exception(refused.value))
        assert "canary001" not in shown


def with_access(path: Path, **told: object) -> Path:
    path = path / "settings.json"
    path.write_text(json.dumps({**GOOD, "operator_access": {"required": True, **told}}))
    return path


def test_the_bootstrap_token_is_read_where_the_settings_say_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST", BOOTSTRAP)
    loaded = load_settings(with_access(tmp_path, bootstrap_token="env:FIRST"))
    assert bootstrap_digest(loaded.operator_access) == digest_of_token(BOOTSTRAP)
    assert BOOTSTRAP not in repr(loaded)


@pytest.mark.parametrize(
    "told",
    [
        {"bootstrap_token": BOOTSTRAP},
        {"bootstrap_token": "file:relative"},
        {"bootstrap_token": "env:FIRST", "bootstrap_token_file": "/etc/token"},
    ],
)
def test_a_bootstrap_token_itself_or_two_of_them_are_refused_and_not_shown(
    tmp_path: Path, told: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput, match=r"operator_access\.bootstrap_token") as refused:
        load_settings(with_access(tmp_path, **told))
    assert BOOTSTRAP not in str(refused.value)


def test_what_is_no_bootstrap_token_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST", "canaryofthebootstrap001")
    loaded = load_settings(with_access(tmp_path, bootstrap_token="env:FIRST"))
    with pytest.raises(InvalidInput, match="skt_bootstrap_SECRET") as refused:
        bootstrap_digest(loaded.operator_access)
    assert "canary" not in str(refused.value)
