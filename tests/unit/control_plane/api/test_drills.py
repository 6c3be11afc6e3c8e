"""What of a drill is written down, and what is refused by its field."""

import pytest

from control_plane.api.drills import DEPTH_MAX, REPORT_BYTES_MAX, TARGET_CHARACTERS_MAX, check_drill
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.client.drills import record_drill
from skerry.plumbing.errors import InvalidInput


def test_a_report_arrives_as_it_was_sent() -> None:
    report = {"target": "a, b", "held": True, "failed": 0, "detected_seconds": None}
    found = check_drill(record_drill("default", "region-lost", report, "id").request)
    assert (found.name, found.target, found.held) == ("region-lost", "a, b", True)
    assert found.report == report


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("drill", ""),
        ("drill", "Not a name"),
        ("target", "a\nb"),
        ("target", "a" * (TARGET_CHARACTERS_MAX + 1)),
        ("report", ""),
        ("report", "[]"),
        ("report", "{"),
        ("report", "null"),
        ("report", '{"a": 1' + "0" * 400 + "}"),
        ("report", '{"a": NaN}'),
        ("report", '{"a": 1e400}'),
        ("report", '{"a": "\\ud800"}'),
        ("report", '{"a": ' + "[" * DEPTH_MAX + "]" * DEPTH_MAX + "}"),
        ("report", "[" * 10_000),
        ("report", '{"a": "' + "b" * REPORT_BYTES_MAX + '"}'),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(field: str, value: str) -> None:
    request = pb.RecordDrillRequest(drill="plane-killed", report="{}")
    setattr(request, field, value)
    with pytest.raises(InvalidInput) as caught:
        check_drill(request)
    assert caught.value.field == field
