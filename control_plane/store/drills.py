"""What drills came to: they change nothing here, and stand in the change log as evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.names import DEFAULT_PROJECT, full_name

COLLECTION = "drills"
HELD, BROKE = "drill.held", "drill.broke"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRecord:
    """A drill that was run: on which planes, whether every promise held, its report as JSON."""

    name: str
    target: str
    held: bool
    report: Mapping[str, Any]


def record_drill(
    session: Session, write: WriteContext, drill: DrillRecord, request_id: str
) -> None:
    """Write a drill into the change log, once however often the same call comes."""
    check_epoch(session, write.epoch)
    told = f"{drill.name} of {drill.target}: "
    told += "every promise held" if drill.held else "a promise broke"
    body = f"{told} {json.dumps(dict(drill.report), sort_keys=True)}"
    asked = Asked(request_id=request_id, kind="record drill", body=body)
    if answered(session, write, asked) is not None:
        return
    keep_told(session, write, asked)
    subject = full_name(DEFAULT_PROJECT, COLLECTION, drill.name)
    effect = Effect(after=dict(drill.report))
    append_change(session, write, HELD if drill.held else BROKE, subject, told, effect)
