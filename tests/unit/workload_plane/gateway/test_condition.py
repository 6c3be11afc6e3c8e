"""What a gateway's operator is told: refusals at once, the rest once it lasts, in steady words."""

from dataclasses import replace

from workload_plane.gateway.condition import (
    CONFIRM_SECONDS_MAX,
    SILENT_SECONDS_MAX,
    Watch,
    gateway_faults,
)
from workload_plane.gateway.status import GatewayStatus

STATUS = GatewayStatus(
    live=True,
    versions={"clusters/clusters.json": "1", "routes/public.json": "1"},
    rejected={},
    in_flight={},
    hosts={},
    peers={},
)
NOW = 100.0
WELL = Watch(now=NOW, answered_at=NOW, status=STATUS, published=STATUS.versions)


def test_all_well_is_no_fault() -> None:
    assert gateway_faults(WELL) == ()


def test_a_refused_publication_is_told_at_once_with_what_serves_meanwhile() -> None:
    (fault,) = gateway_faults(replace(WELL, refused="half of the replicas would vanish"))
    assert "half of the replicas would vanish" in fault
    assert "serves what it was told before" in fault


def test_a_rejected_file_is_named_once_it_had_time_to_be_confirmed() -> None:
    newer = {**STATUS.versions, "clusters/clusters.json": "2"}
    rejecting = replace(STATUS, rejected={"clusters/clusters.json": 1})
    watch = replace(WELL, status=rejecting, published=newer, published_at=NOW - 1)
    assert gateway_faults(watch) == ()
    (fault,) = gateway_faults(replace(watch, published_at=NOW - CONFIRM_SECONDS_MAX - 1))
    assert "clusters/clusters.json; Envoy refused them" in fault


def test_a_rejection_that_was_mended_is_none_any_more() -> None:
    assert (
        gateway_faults(replace(WELL, status=replace(STATUS, rejected=dict(STATUS.rejected)))) == ()
    )
    mended = replace(STATUS, rejected={"routes/public.json": 3})
    assert gateway_faults(replace(WELL, status=mended)) == ()


def test_what_is_unconfirmed_for_long_is_told_with_few_names() -> None:
    many = {f"endpoints/d{number}/http.json": "1" for number in range(30)}
    (fault,) = gateway_faults(replace(WELL, published=many))
    assert fault.endswith("and 26 more")


def test_silence_is_told_only_once_it_lasts() -> None:
    silent = replace(WELL, status=None, answered_at=NOW - SILENT_SECONDS_MAX)
    assert gateway_faults(silent) == ()
    (fault,) = gateway_faults(replace(silent, now=NOW + 1))
    assert fault == gateway_faults(replace(silent, now=NOW + 60))[0], "the words do not change"


def test_a_bad_trial_hides_the_call_for_a_restart() -> None:
    (fault,) = gateway_faults(replace(WELL, trial="unknown field", restart_needed=True))
    assert "do not restart it" in fault
    (fault,) = gateway_faults(replace(WELL, restart_needed=True))
    assert "started again" in fault
