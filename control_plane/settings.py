"""Settings of the control plane, read once from its JSON file; all faults reported together."""

import json
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from control_plane.reconcile.policy import ReconcilePolicy
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.plumbing.errors import FieldViolation, InvalidInput

_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class TlsSettings:
    """Where the PEM files of the link's mTLS are."""

    ca: Path
    certificate: Path
    key: Path


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class ControlPlaneSettings:
    """Addresses are `host:port`; the operator address must be loopback (it is plaintext)."""

    name: str
    database_url: str
    operator_address: str
    link_address: str
    http_address: str
    tls: TlsSettings
    project: str = DEFAULT_PROJECT
    reconnect_jitter_seconds: float = 2.0


def load_settings(path: Path) -> ControlPlaneSettings:
    """Return the settings of a file; InvalidInput names every fault at once."""
    try:
        raw = json.loads(path.read_bytes())
        settings = TypeAdapter(ControlPlaneSettings).validate_python(raw)
    except (OSError, json.JSONDecodeError) as error:
        raise InvalidInput(f"cannot read settings {path}: {error}") from error
    except ValidationError as error:
        faults = tuple(
            FieldViolation(path=".".join(map(str, fault["loc"])), message=fault["msg"])
            for fault in error.errors()
        )
        text = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
        raise InvalidInput(f"settings {path} are wrong: {text}", violations=faults) from error
    host = settings.operator_address.rpartition(":")[0]
    if host not in ("127.0.0.1", "localhost", "[::1]"):
        raise InvalidInput(
            f"operator_address {settings.operator_address} is plaintext, so it must be on loopback"
        )
    return settings


def policy_of(settings: ControlPlaneSettings) -> ReconcilePolicy:
    """Return the numbers reconciliation is bound by."""
    return ReconcilePolicy(reconnect_jitter_seconds=settings.reconnect_jitter_seconds)
