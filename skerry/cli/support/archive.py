"""The support archive while it is gathered: bounded, and told of what is not in it. PURE.

`skerry.cli.bundle` fills it and writes what `pack` returns.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FORMAT = 1
FILE_BYTES_MAX = 2 * 1024 * 1024
# Packed a tenth of it: what a mail takes.
TOTAL_BYTES_MAX = 64 * 1024 * 1024
ENTRIES_MAX = 5_000
FILE_MODE = 0o600
MANIFEST = "manifest.json"
# The manifest may name so many things that are not in it; further ones are only counted.
LEFT_OUT_MAX = 1_000


@dataclass(slots=True, kw_only=True)
class Archive:
    """Files by name; `is_secret` says of which nobody may see the content."""

    is_secret: Callable[[bytes], bool]
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)  # bytes that there were, by name
    left_out: list[tuple[str, str]] = field(default_factory=list)
    left_out_uncounted: int = 0

    def add(self, name: str, data: bytes, there_were: int | None = None) -> None:
        """Take a file in, its end where it is too long; `there_were` bytes where less was read."""
        if self.is_secret(data):
            self.leave_out(name, "it holds what looks like a secret")
            return
        size = there_were if there_were is not None else len(data)
        kept = data[-FILE_BYTES_MAX:]
        held = sum(map(len, self.files.values()))
        if len(self.files) >= ENTRIES_MAX or held + len(kept) > TOTAL_BYTES_MAX:
            self.leave_out(name, "the archive is full")
            return
        if size > len(kept):
            self.cut[name] = size
        self.files[name] = kept

    def leave_out(self, name: str, why: str) -> None:
        """Note what is not in the archive, and why."""
        if len(self.left_out) < LEFT_OUT_MAX:
            self.left_out.append((name, why))
        else:
            self.left_out_uncounted += 1

    def manifest(self, made_at: datetime, told: dict[str, Any]) -> dict[str, Any]:
        """Return what is in it and what is not; `told` is of the whole archive."""
        return {
            "format": FORMAT,
            "made_at": made_at.isoformat(),
            **told,
            "files": [
                {"name": name, "bytes": len(data), "bytes_before": self.cut.get(name, len(data))}
                for name, data in sorted(self.files.items())
            ],
            "left_out": [{"what": what, "why": why} for what, why in self.left_out],
            "left_out_beside": self.left_out_uncounted,
        }

    def pack(self, made_at: datetime, told: dict[str, Any]) -> bytes:
        """Return the bytes of the tar.gz, with the manifest first."""
        manifest = json.dumps(self.manifest(made_at, told), indent=1).encode() + b"\n"
        packed = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=int(made_at.timestamp())) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as tar,
        ):
            for name, data in ((MANIFEST, manifest), *sorted(self.files.items())):
                entry = tarfile.TarInfo(f"skerry-bundle/{name}")
                entry.size, entry.mode, entry.mtime = len(data), FILE_MODE, made_at.timestamp()
                tar.addfile(entry, io.BytesIO(data))
        return packed.getvalue()
