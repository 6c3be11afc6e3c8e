"""The drill of a request, checked: `operations_service` writes it down."""

import json
from typing import Any

from control_plane.store.drills import DrillRecord
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.fleet.names import InvalidName, check_name
from skerry.plumbing.errors import InvalidInput

REPORT_BYTES_MAX = 16 * 1024
TARGET_CHARACTERS_MAX = 256


def check_drill(request: pb.RecordDrillRequest) -> DrillRecord:
    """Return what is to be written down; InvalidInput with the field that is wrong."""
    try:
        name = check_name(request.drill, "drill")
    except InvalidName as error:
        raise InvalidInput(str(error), field="drill") from error
    if len(request.target) > TARGET_CHARACTERS_MAX or not request.target.isprintable():
        raise InvalidInput(
            f"target must be at most {TARGET_CHARACTERS_MAX} printable characters", field="target"
        )
    return DrillRecord(
        name=name, target=request.target, held=request.held, report=_report(request.report)
    )


def _report(text: str) -> dict[str, Any]:
    if len(text.encode()) > REPORT_BYTES_MAX:
        raise InvalidInput(f"report must be at most {REPORT_BYTES_MAX} bytes", field="report")
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("report must be a JSON object", field="report") from error
    if not isinstance(found, dict):
        raise InvalidInput("report must be a JSON object", field="report")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
