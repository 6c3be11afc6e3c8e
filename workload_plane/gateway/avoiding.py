"""Which replicas a continued stream was lost with: the relay tells, pickers choose others. Pure.

The gateway tells its relay whom it tried (`TRIED_HEADER`) and who answered (`TIMING_HEADER`); what
broke is asked again with `AVOID_HEADER`, which every picker on its way reads.
"""

import re
from collections.abc import Iterable

# `PLANE/HOST,PLANE/HOST`, a host being a replica or a peer's gateway: names of 63 characters each.
AVOIDED_MAX = 16  # the relay continues eight times, and one attempt tries two hosts
_AVOIDED_BYTES_MAX = AVOIDED_MAX * 2 * 64
_NAME = "[a-z][a-z0-9-]{0,62}"
_TIMING = re.compile(rf'plane;desc="({_NAME})", replica;desc="({_NAME})"')
_HOST = re.compile(_NAME)
_AVOIDED = re.compile(f"({_NAME})/({_NAME})")

Host = tuple[str, str]


def hosts_of(tried: str, timing: str, plane: str) -> tuple[Host, ...]:
    """Return the hosts that an answer in `plane` names, as (plane, host), each once.

    What is not of the gateway's own form names nobody.
    """
    found = [
        (plane, name) for name in (t.strip() for t in tried.split(",")) if _HOST.fullmatch(name)
    ]
    if told := _TIMING.match(timing):
        found.append((told[1], told[2]))
    return tuple(dict.fromkeys(found))


def render_avoided(hosts: Iterable[Host]) -> str:
    """Return the header's value; of too many hosts the last ones."""
    return ",".join(f"{plane}/{name}" for plane, name in list(hosts)[-AVOIDED_MAX:])


def read_avoided(value: bytes) -> tuple[Host, ...]:
    """Return the hosts of the header; none where it is absent, too long or anything else."""
    if not value or len(value) > _AVOIDED_BYTES_MAX:
        return ()
    found = (_AVOIDED.fullmatch(part.strip()) for part in value.decode("latin-1").split(","))
    return tuple((one[1], one[2]) for one in found if one)
