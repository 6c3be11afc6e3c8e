"""demand.json: what the agent is told of deployments that are asked for, to start one at zero.

The picker writes it while anything is asked for, the agent reads it. Both formats are here.
"""

import json
from collections.abc import Mapping

from skerry.plumbing.errors import Corrupt
from workload_plane.converge.demand import DeploymentDemand

DEMAND_FORMAT = 1
DEMAND_BYTES_MAX = 4 * 1024 * 1024

# A number past all bounds, or a nest without end, is damage as any other.
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def render_demand(demands: Mapping[str, DeploymentDemand]) -> bytes:
    """Return the file's content."""
    values = {
        "format": DEMAND_FORMAT,
        "deployments": {
            name: {"waiting": one.waiting, "idle_seconds": one.idle_seconds}
            for name, one in sorted(demands.items())
        },
    }
    return json.dumps(values).encode() + b"\n"


def parse_demand(data: bytes) -> dict[str, DeploymentDemand]:
    """Return what the bytes say; raises Corrupt for anything else than the picker's file."""
    try:
        values = json.loads(data)
        if values["format"] != DEMAND_FORMAT:
            raise ValueError(f"format {values['format']!r} is not {DEMAND_FORMAT}")
        return {
            str(name): DeploymentDemand(
                waiting=int(one["waiting"]), idle_seconds=float(one["idle_seconds"])
            )
            for name, one in values["deployments"].items()
        }
    except _DAMAGE as error:
        raise Corrupt(f"not a demand file: {error!r}") from None
