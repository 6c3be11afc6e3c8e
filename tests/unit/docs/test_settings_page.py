"""Every setting of the control plane is on the page about running a fleet, and no other is."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from control_plane.settings import (
    ControlPlaneSettings,
    RegionLatencySettings,
    SchedulerSettings,
    TlsSettings,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operating" / "running.md"
SECTIONS = {
    "tls": TlsSettings,
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
            if f"{section}.{field.name}[]" not in SECTIONS:
                yield f"{section}.{field.name}"


def test_every_setting_is_documented_and_nothing_else_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("## Settings of the control plane\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `([a-z_.\[\]]+)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted(names())
