"""The shape of files of every kind but Deployment (`apiVersion: skerry/v1`), field by field.

Only `skerry.client.manifest_intents` reads through it. As in a deployment's file, fields are
camelCase, unknown ones are refused, and numbers are not guessed from text.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from skerry.client.manifest_schema import Part, Uri
from skerry.client.quantities import parse_bytes, parse_duration, parse_time
from skerry.fleet.catalogue import (
    CLIENT_REGIONS_MAX,
    DESCRIPTION_CHARACTERS_MAX,
    LATENCY_SECONDS_MAX,
    MEMORY_BYTES_MAX,
)
from skerry.fleet.names import NAME_CHARACTERS_MAX
from skerry.fleet.pool import PRICE_MAX, CapacityClass

# region/CLOUD/REGION, each part a name.
_NAME_CHARS_MAX = 3 * NAME_CHARACTERS_MAX
_VENDOR_CHARS_MAX = 63

Name = Annotated[str, Field(min_length=1, max_length=_NAME_CHARS_MAX)]
Dollars = Annotated[float, Field(ge=0, le=PRICE_MAX, allow_inf_nan=False)]
Description = Annotated[
    str, Field(max_length=DESCRIPTION_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
]
Vendor = Annotated[str, Field(max_length=_VENDOR_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Bytes = Annotated[
    int,
    Field(le=MEMORY_BYTES_MAX),
    BeforeValidator(parse_bytes, json_schema_input_type=int | str),
]
Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
ClientRegion = Annotated[
    str,
    Field(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$"),
]
Latency = Annotated[
    float,
    Field(ge=0, le=LATENCY_SECONDS_MAX),
    BeforeValidator(parse_duration, json_schema_input_type=str),
]


class Named(Part):
    """What it is called."""

    name: Name


class PoolSpec(Part):
    """The operator's terms of a pool; without a price nothing is placed there."""

    class_: Annotated[CapacityClass, Field(alias="class", strict=False)] = CapacityClass.ON_DEMAND
    price_per_accelerator_hour: Dollars | None = None
    cordoned: bool = False


class PoolFile(Part):
    """The terms of a pool, PLANE--POOL."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Pool"]
    metadata: Named
    spec: PoolSpec


class AcceleratorKindSpec(Part):
    """What one accelerator of the kind is."""

    vendor: Vendor = ""
    memory: Bytes = 0
    description: Description = ""


class AcceleratorKindFile(Part):
    """A kind of accelerator that pools name."""

    api_version: Literal["skerry/v1"]
    kind: Literal["AcceleratorKind"]
    metadata: Named
    spec: AcceleratorKindSpec = AcceleratorKindSpec()


class BaseModelSpec(Part):
    """Where the weights are, and what is known of them."""

    uri: Uri
    sha256: Sha256 = ""
    weights: Bytes = 0
    description: Description = ""


class BaseModelFile(Part):
    """A base model by its source."""

    api_version: Literal["skerry/v1"]
    kind: Literal["BaseModel"]
    metadata: Named
    spec: BaseModelSpec


class ReservationSpec(Part):
    """Which pool is paid for, at which price, from when to when (no longer part of it)."""

    pool: Name
    price_per_accelerator_hour: Dollars
    start_time: Time
    end_time: Time
    description: Description = ""


class ReservationFile(Part):
    """A pool that is paid for a time whether it is used or not."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Reservation"]
    metadata: Named
    spec: ReservationSpec


class PriceSpec(Part):
    """What an accelerator-hour costs from a moment on, until the pool's next price."""

    valid_from: Time
    price_per_accelerator_hour: Dollars


class PriceFile(Part):
    """A price by time; its name is the pool's, PLANE--POOL."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Price"]
    metadata: Named
    spec: PriceSpec


class CloudSpec(Part):
    """What people should know of it."""

    description: Description = ""


class CloudFile(Part):
    """A cloud, or a site of one's own, that planes lie in."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Cloud"]
    metadata: Named
    spec: CloudSpec = CloudSpec()


class RegionSpec(Part):
    """How far users of client regions are, one way."""

    description: Description = ""
    client_latency: dict[ClientRegion, Latency] = Field(
        default_factory=dict, max_length=CLIENT_REGIONS_MAX
    )


class RegionFile(Part):
    """A region of a cloud, CLOUD/REGION."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Region"]
    metadata: Named
    spec: RegionSpec = RegionSpec()


class CordonSpec(Part):
    """Why it takes nothing new, and whether what runs there is to go elsewhere."""

    draining: bool = False
    reason: Description = ""


class CordonFile(Part):
    """A part of the fleet that takes nothing new, named as `skerry cordon` names it."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Cordon"]
    metadata: Named
    spec: CordonSpec = CordonSpec()
