"""What the base-model cache may take and where from: the settings `model_cache` of a plane."""

from dataclasses import dataclass
from pathlib import Path

from workload_plane.models.uris import GCS, HTTPS, HUB, S3

GIB = 1 << 30
# A disk may be shared, and hang: from then on no start tries what it would only wait for.
DISK_SECONDS_MAX = 10.0
HUB_ENDPOINT = "https://huggingface.co"
SCHEMES = (HUB, S3, GCS, HTTPS)  # what is not encrypted has to be asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """One plane's base-model cache; `bytes_max` None: as much as the disk has.

    `hub_token` says where the hub's token is: `env:`, `file:` or `command:`.
    """

    directory: Path
    bytes_max: int | None = None
    free_bytes_min: int = 4 * GIB
    model_bytes_max: int = 4096 * GIB
    downloads_max: int = 2
    schemes: tuple[str, ...] = SCHEMES
    allow_private_addresses: bool = False
    allow_pickle: bool = False
    hub_endpoint: str = HUB_ENDPOINT
    hub_token_file: Path | None = None
    hub_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """How one download behaves. Beside what it may take these are no operator's business."""

    files_at_once_max: int = 4  # of one base model; four streams fill 10 Gbit/s
    stall_seconds: float = 60.0  # nothing came for so long: the connection is given up
    tries_max: int = 5  # in a row without one byte of progress, then the download has failed
    sync_bytes: int = 64 * 1024 * 1024  # what a crash may cost
    write_bytes: int = 1024 * 1024  # a write in a thread costs 0.1 ms, whatever its size
