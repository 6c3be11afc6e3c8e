"""The page of what a continued stream costs: the aim judged, beside its bound."""

import pytest

from benchmarks.relay_page import page_of


def results(kept: int) -> dict[str, object]:
    """Return results with that many events kept, of 20,000 that pass unread."""
    kinds = {"kept": kept, "counted": kept, "unkept": 20_000}
    through = {
        "gateway_microseconds_per_event": 40.0,
        "relay_microseconds_per_event": 0.0,
        "first_byte_ms_least": 2.0,
        "first_byte_ms_p50": 3.0,
    }
    return {
        "machine": "one",
        "load_before": 0.5,
        "rounds": 5,
        "streams": [100, 200],
        "relay": [
            {
                "kind": kind,
                "events_per_cpu_second": events,
                "events_per_second": events / 4,
                "memory_mib": 51.0,
            }
            for kind, events in kinds.items()
        ],
        "gateway": [{"continuation": is_on, **through} for is_on in (False, True)],
    }


@pytest.mark.parametrize(
    ("kept", "told"),
    [(19_000, "19,000, **missed**. It is\n  0.95"), (25_000, "25,000, reached. It is\n  1.25")],
)
def test_the_aim_is_judged_beside_its_bound(kept: int, told: str) -> None:
    assert told in page_of(results(kept))
