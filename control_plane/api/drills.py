"""The drill of a request, checked: `operations_service` writes it down."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError, SerializeToJsonError
from google.protobuf.struct_pb2 import Struct

from control_plane.store.drills import DrillRecord
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.fleet.names import InvalidName, check_name
from skerry.plumbing.errors import InvalidInput

REPORT_BYTES_MAX = 16 * 1024
TARGET_CHARACTERS_MAX = 256
# A report has three. Clients read no message of more than a hundred, which is some twenty of these.
DEPTH_MAX = 8


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
    """Return the report, plain values that every reader of the change log can be shown."""
    if len(text.encode()) > REPORT_BYTES_MAX:
        raise InvalidInput(f"report must be at most {REPORT_BYTES_MAX} bytes", field="report")
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or _is_deeper(found, DEPTH_MAX):
            raise ValueError("no object, or too deep")
        MessageToDict(ParseDict(found, Struct()))
    except (ArithmeticError, ValueError, RecursionError, ParseError, SerializeToJsonError) as error:
        raise InvalidInput(
            f"report must be a JSON object, at most {DEPTH_MAX} deep, of finite numbers and of text"
            " in UTF-8",
            field="report",
        ) from error
    return found


def _is_deeper(value: Any, most: int) -> bool:
    """Say whether lists and objects stand within one another more often than that."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deeper(one, most - 1) for one in inner)
