"""Clock, disk and certificate of a process are on its page, as they are when it is asked for."""

import math
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.plumbing import certificates, metrics
from skerry.plumbing.host_metrics import certificate_left_seconds, show_host
from tests.fakes.clock import FakeClock


def told() -> dict[str, float]:
    """Return what the page says of the host."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {one.name: one.samples[0].value for one in families if one.samples}


def test_what_is_told_is_as_of_now(tmp_path: Path) -> None:
    clock = FakeClock()
    certificate = certificates.create_authority(tmp_path, "here", clock.now())
    show_host(clock, tmp_path, certificate)
    page = told()
    assert page["skerry_clock_seconds"] == clock.now().timestamp()
    assert 0.0 <= page["skerry_data_free_ratio"] <= 1.0
    left = timedelta(days=certificates.AUTHORITY_DAYS).total_seconds()
    assert page["skerry_certificate_left_seconds"] == pytest.approx(left, abs=3600)


def test_what_cannot_be_read_is_not_told_and_costs_nothing_else(tmp_path: Path) -> None:
    show_host(FakeClock(), tmp_path / "gone", None)
    page = told()
    assert math.isnan(page["skerry_data_free_ratio"])
    assert math.isnan(page["skerry_certificate_left_seconds"])
    assert page["skerry_clock_seconds"] > 0


def test_a_certificate_without_a_file_ends_at_no_time(tmp_path: Path) -> None:
    clock = FakeClock()
    certificate = certificates.create_authority(tmp_path, "here", clock.now())
    assert certificate_left_seconds(clock, certificate) > 0
    assert math.isnan(certificate_left_seconds(clock, None))
    assert math.isnan(certificate_left_seconds(clock, tmp_path / "gone"))
