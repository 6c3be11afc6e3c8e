"""What a plane counted, as it came in: turned into values only as far as somebody looks.

Thousands of planes tell their loads every few seconds; what each of them decided is asked for by
people, and now and then by the global loop.
"""

from functools import cached_property

from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.told import LOADS_MAX, DeploymentLoad, LoadReport
from skerry.wire.scaling import answers_from_proto, load_from_proto, readings_from_proto


class HeardLoads:
    """A plane's loads with the moment they were heard; values are made when they are asked for."""

    def __init__(self, message: plane_service_pb2.LoadReport, heard_at: float) -> None:
        """Keep the message; `heard_at` is of the control plane's monotonic clock."""
        self._message = message
        self._heard_at = heard_at

    def readings(self) -> LoadReport:
        """Return what was counted, without decisions; readings that cannot be are left out."""
        return readings_from_proto(self._message, self._heard_at)

    def of(self, deployment: str) -> DeploymentLoad | None:
        """Return all that was told of a deployment."""
        found = self._places.get(deployment)
        return None if found is None else load_from_proto(found, self._heard_at)

    def answers(self, deployment: str) -> RecentAnswers | None:
        """Return how answers of a deployment went, None where that was not told."""
        found = self._places.get(deployment)
        return answers_from_proto(found.answers) if found and found.HasField("answers") else None

    @cached_property
    def _places(self) -> dict[str, plane_service_pb2.DeploymentLoad]:
        loads = self._message.loads[:LOADS_MAX]
        return {one.deployment: one for one in reversed(loads)}  # the first of a name counts
