"""How answers of the last minutes kept what deployments promise: the call and its rows.

`operator_methods` makes the clients' methods of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.client.operator_calls import Call, Page, Which, page_call, page_fields
from skerry.fleet.answers import Quantiles, RecentAnswers
from skerry.wire.scaling import answers_from_proto


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevelRow:
    """What a deployment promises, and how answers of the last five minutes kept it.

    `answers` None: no plane where it is placed told of any. `heard_at` is when the oldest of what
    `planes` told was heard, `silent_planes` are those where it is placed that are not in the sum.
    """

    name: str  # of the deployment
    ttft_seconds: float
    tpot_seconds: float
    answers: RecentAnswers | None
    first_token: Quantiles | None
    interval: Quantiles | None
    planes: tuple[str, ...]
    heard_at: datetime | None
    silent_planes: tuple[str, ...]

    @property
    def attainment(self) -> float | None:
        """Return the share of answers that kept the promise, None where none was judged."""
        return self.answers.attainment if self.answers is not None else None


def list_service_levels(
    project: str, token: str, which: Which, deployments: Sequence[str]
) -> Call[Page[ServiceLevelRow]]:
    """Return the call for a page of service levels."""
    request = pb.ListServiceLevelsRequest(
        **page_fields(project, token), **which.fields(), deployments=deployments
    )
    return page_call("ListServiceLevels", request, "service_levels", service_level_row)


def service_level_row(message: Any) -> ServiceLevelRow:
    """Return the row of a service level's message."""
    return ServiceLevelRow(
        name=message.deployment,
        ttft_seconds=message.ttft_seconds,
        tpot_seconds=message.tpot_seconds,
        answers=answers_from_proto(message.answers) if message.HasField("answers") else None,
        first_token=_quantiles(message, "first_token"),
        interval=_quantiles(message, "interval"),
        planes=tuple(message.planes),
        heard_at=(message.heard_time.ToDatetime(UTC) if message.HasField("heard_time") else None),
        silent_planes=tuple(message.silent_planes),
    )


def _quantiles(message: Any, field: str) -> Quantiles | None:
    if not message.HasField(field):
        return None
    told = getattr(message, field)
    return Quantiles(
        p50_seconds=told.p50_seconds,
        p95_seconds=told.p95_seconds,
        p99_seconds=told.p99_seconds,
    )
