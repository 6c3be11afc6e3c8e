"""The call that writes what a drill came to into the change log."""

import json
from collections.abc import Mapping
from typing import Any

from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.client.operator_calls import WRITE_SECONDS_MAX, Call


def record_drill(
    project: str, drill: str, report: Mapping[str, Any], request_id: str
) -> Call[None]:
    """Return the call; `report` has plain values, among them `target` and `held`."""
    request = pb.RecordDrillRequest(
        parent=f"projects/{project}",
        drill=drill,
        target=str(report["target"]),
        held=bool(report["held"]),
        report=json.dumps(dict(report)),
        request_id=request_id,
    )
    return Call(
        method="RecordDrill", request=request, read=lambda _: None, seconds_max=WRITE_SECONDS_MAX
    )
