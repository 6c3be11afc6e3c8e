"""Every setting of both kinds of plane is on the page about running a fleet, and no other is."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from control_plane.access_settings import (
    OidcGrantSettings,
    OidcSettings,
    OperatorAccessSettings,
)
from control_plane.settings import (
    AutoscaleSettings,
    ControlPlaneSettings,
    JoiningSettings,
    OperatorTlsSettings,
    RegionLatencySettings,
    SchedulerSettings,
    TlsSettings,
)
from skerry.fleet.pool import PoolShape
from workload_plane.engine_user import KEYS as ENGINE_USER_KEYS
from workload_plane.models.limits import CacheSettings
from workload_plane.ray_settings import RAY_KEYS
from workload_plane.relay_settings import RelaySettings
from workload_plane.settings import NODE_NAMES, OPTIONAL, REQUIRED, GatewaySettings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operating" / "running.md"
SECTIONS = {
    "autoscale": AutoscaleSettings,
    "tls": TlsSettings,
    "operator_tls": OperatorTlsSettings,
    "operator_access": OperatorAccessSettings,
    "joining": JoiningSettings,
    "operator_access.oidc": OidcSettings,
    "operator_access.oidc.grants[]": OidcGrantSettings,
    "scheduler": SchedulerSettings,
    "scheduler.region_latencies[]": RegionLatencySettings,
}


def names() -> Iterator[str]:
    """Yield every setting by its path in the file."""
    for field in dataclasses.fields(ControlPlaneSettings):
        if field.name not in SECTIONS:
            yield field.name
    for section, settings in SECTIONS.items():
        for field in dataclasses.fields(settings):
            name = f"{section}.{field.name}"
            if name not in SECTIONS and f"{name}[]" not in SECTIONS:
                yield name


def plane_names() -> Iterator[str]:
    """Yield every setting of a workload plane by its path in the file."""
    sections = {
        "pools": [f"pools[].{name}" for name in (*_fields(PoolShape), NODE_NAMES)],
        "gateway": [f"gateway.{name}" for name in _fields(GatewaySettings)],
        "tls": ["tls.ca", "tls.certificate", "tls.key"],
        "relay": [f"relay.{name}" for name in _fields(RelaySettings)],
        "ray": [f"ray.{name}" for name in RAY_KEYS],
        "autoscale": ["autoscale.period_seconds"],
        "engine_user": [f"engine_user.{name}" for name in ENGINE_USER_KEYS],
        "model_cache": [f"model_cache.{name}" for name in _fields(CacheSettings)],
    }
    for name in (*REQUIRED, *OPTIONAL):
        yield from sections.get(name, [name])


def _fields(
    settings: type[PoolShape | GatewaySettings | CacheSettings | RelaySettings],
) -> list[str]:
    return [field.name for field in dataclasses.fields(settings)]


def documented(heading: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return sorted(re.findall(r"^\| `([a-z_.\[\]]+)` \|", section, re.MULTILINE))


def test_every_setting_is_documented_and_nothing_else_is() -> None:
    assert documented("Settings of the control plane") == sorted(names())
    assert documented("Settings of a workload plane") == sorted(plane_names())
