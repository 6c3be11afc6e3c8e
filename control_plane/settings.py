"""Settings of the control plane, read once from its JSON file; all faults reported together."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from control_plane.access_settings import OperatorAccessSettings, access_faults
from control_plane.api.http_guard import LOOPBACK_HOSTS
from control_plane.dashboard.guard import origin_fault
from control_plane.reconcile.policy import ReconcilePolicy
from scheduler.problem import RegionLatency
from skerry.fleet.deployment import FailBack
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.party_uris import DEFAULT_TRUST_DOMAIN, UriForm, check_trust_domain
from skerry.plumbing.errors import FieldViolation, InvalidInput
from skerry.plumbing.sealing import check_references, keyring_of
from skerry.plumbing.secret_references import resolved
from skerry.plumbing.trace_target import SAMPLE_DEFAULT, TraceTarget

# What is wrong is told by its field: what it holds may be a secret.
_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)
REGION_CHARACTERS_MAX = 63
LATENCY_MILLISECONDS_MAX = 60_000.0  # a minute: past it seconds were taken for milliseconds
CHANGES_KEPT_MIN = 1_000  # fewer, and a watcher that restarts finds its place gone
SETTLE_SECONDS_MAX = 86_400.0  # a day: past it nothing ever goes back
# Shorter, and it decides by single requests; longer, and two rounds are silence.
PERIOD_SECONDS_MIN, PERIOD_SECONDS_MAX = 1.0, 60.0
# Shorter, and planes do little else than renew; longer, and whoever copied a key keeps it for long.
CERTIFICATE_SECONDS_MIN, CERTIFICATE_SECONDS_MAX = 10.0, 366 * 86_400.0
LATENCIES_MAX = 10_000  # 100 client regions x 100 plane regions

_Region = Annotated[str, Field(min_length=1, max_length=REGION_CHARACTERS_MAX)]
_TrustDomain = Annotated[str, AfterValidator(check_trust_domain)]
_PlaneRegion = Annotated[str, Field(min_length=1, max_length=2 * REGION_CHARACTERS_MAX + 1)]


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class TlsSettings:
    """Where the PEM files of the link's mTLS are."""

    ca: Path
    certificate: Path
    key: Path


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class JoiningSettings:
    """Where planes join by invitation, and with which authority their certificates are issued.

    `advertised_address` is what planes are told to call, where it is not `address`;
    `certificate_uri` is which of the two URIs their certificates have (decision 0030). The first
    of `sealing_keys` seals the authority's key, all of them open it (decision 0034): a file says
    where the keys are, and `load_settings` puts the keys in those places.
    """

    address: str
    authority: Path
    # Not SPIFFE's yet: gateways of the releases before would not know a revoked plane by it.
    certificate_uri: Annotated[UriForm, Field(strict=False)] = UriForm.SKERRY
    advertised_address: str = ""
    certificate_seconds: Annotated[
        float, Field(ge=CERTIFICATE_SECONDS_MIN, le=CERTIFICATE_SECONDS_MAX, allow_inf_nan=False)
    ] = 30 * 86_400.0
    sealing_keys: tuple[str, ...] = Field(default=(), repr=False)


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class OperatorTlsSettings:
    """Where the PEM files are with which the operators' port proves itself."""

    certificate: Path
    key: Path


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class RegionLatencySettings:
    """How far users of a client region are from the planes of a region, one way."""

    client_region: _Region
    plane_region: _PlaneRegion  # REGION, or CLOUD/REGION
    milliseconds: Annotated[float, Field(ge=0, le=LATENCY_MILLISECONDS_MAX, allow_inf_nan=False)]


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class SchedulerSettings:
    """What the scheduler is bound by beside deployments and pools.

    In mode `advisory` its plans wait for an operator's approval. Nothing moves back to a plane that
    was lost before it was heard for `settle_seconds` without a break.
    """

    mode: Literal["automatic", "advisory"] = "automatic"
    moves_max: Annotated[int, Field(strict=True, ge=0)] | None = None
    moves_per_minute_max: Annotated[int, Field(strict=True, ge=0)] = 20
    fail_back: Annotated[FailBack, Field(strict=False)] = FailBack.BEST_SCORE
    settle_seconds: Annotated[float, Field(ge=0, le=SETTLE_SECONDS_MAX, allow_inf_nan=False)] = 60.0
    reserve_fraction: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    region_latencies: Annotated[
        tuple[RegionLatencySettings, ...], Field(max_length=LATENCIES_MAX)
    ] = ()


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class AutoscaleSettings:
    """How often the global loop decides; planes that say nothing for a minute are not heard."""

    period_seconds: Annotated[
        float, Field(ge=PERIOD_SECONDS_MIN, le=PERIOD_SECONDS_MAX, allow_inf_nan=False)
    ] = 30.0


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class TracingSettings:
    """Where spans of decisions and of operators' calls go.

    All of them are sent; `sample` is of requests, and here so that one section fits both files.
    """

    endpoint: str
    sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = SAMPLE_DEFAULT

    def __post_init__(self) -> None:
        self.target()

    def target(self) -> TraceTarget:
        """Return the target; ValueError for an endpoint that is none."""
        return TraceTarget(endpoint=self.endpoint, sample=self.sample)


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class ControlPlaneSettings:
    """Addresses are `host:port`; the dashboard's is plaintext, so loopback.

    Without `operator_tls` the operator address is plaintext, and must be loopback.
    `dashboard_origin` is where browsers see the dashboard when a TLS proxy stands before it.
    """

    name: str
    database_url: str = Field(repr=False)  # it may have a password in it
    operator_address: str
    link_address: str
    http_address: str
    tls: TlsSettings
    dashboard_address: str | None = None
    dashboard_origin: str | None = None
    project: str = DEFAULT_PROJECT
    # Of SPIFFE IDs in planes' certificates; those of another one are nobody's here.
    trust_domain: _TrustDomain = DEFAULT_TRUST_DOMAIN
    reconnect_jitter_seconds: float = 2.0
    scheduler: SchedulerSettings = SchedulerSettings()
    autoscale: AutoscaleSettings = AutoscaleSettings()
    operator_access: OperatorAccessSettings = OperatorAccessSettings()
    # Without it nobody joins by invitation: certificates are the operator's to bring.
    joining: JoiningSettings | None = None
    operator_tls: OperatorTlsSettings | None = None
    tracing: TracingSettings | None = None  # None: nothing is traced
    # At 1 kB each a gigabyte; a fleet of 1,000 planes makes a million in some weeks.
    changes_kept: Annotated[int, Field(strict=True, ge=CHANGES_KEPT_MIN)] = 1_000_000


def load_settings(path: Path) -> ControlPlaneSettings:
    """Return the settings of a file with every secret that it only names.

    InvalidInput names every fault at once; Infeasible where a secret is not where it is said to be.
    """
    settings = read_settings(path)
    # Last: a program may be asked for each.
    return replace(
        settings,
        database_url=resolved(settings.database_url, os.environ),
        joining=_with_keys(settings.joining),
        operator_access=_with_token(settings.operator_access),
    )


def _with_token(told: OperatorAccessSettings) -> OperatorAccessSettings:
    if told.bootstrap_token is None:
        return told
    return replace(told, bootstrap_token=resolved(told.bootstrap_token, os.environ))


def _with_keys(joining: JoiningSettings | None) -> JoiningSettings | None:
    if joining is None or not joining.sealing_keys:
        return joining
    keys = tuple(resolved(one, os.environ) for one in joining.sealing_keys)
    keyring_of(keys)
    return replace(joining, sealing_keys=keys)


def read_settings(path: Path) -> ControlPlaneSettings:
    """Return the settings of a file as they are there; InvalidInput names every fault at once."""
    try:
        raw = json.loads(path.read_bytes())
        settings = TypeAdapter(ControlPlaneSettings).validate_python(raw)
    except ValidationError as error:
        faults = tuple(
            FieldViolation(path=".".join(map(str, fault["loc"])), message=fault["msg"])
            for fault in error.errors()
        )
        text = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
        raise InvalidInput(f"settings {path} are wrong: {text}", violations=faults) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read settings {path}: {error}") from error
    _refuse_open_port(settings)
    _refuse_open_dashboard(settings)
    _refuse_contradictions(settings.scheduler, path)
    if settings.joining is not None:
        _refuse_keys(settings.joining, path)
    if faults := tuple(access_faults(settings.operator_access)):
        text = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
        raise InvalidInput(f"settings {path} are wrong: {text}", violations=faults)
    return settings


def policy_of(settings: ControlPlaneSettings) -> ReconcilePolicy:
    """Return the numbers reconciliation is bound by."""
    told = settings.scheduler
    return ReconcilePolicy(
        reconnect_jitter_seconds=settings.reconnect_jitter_seconds,
        moves_max=told.moves_max,
        moves_per_minute_max=told.moves_per_minute_max,
        fail_back=told.fail_back,
        settle_seconds=told.settle_seconds,
        advisory=told.mode == "advisory",
        reserve_fraction=told.reserve_fraction,
        scaling_period_seconds=settings.autoscale.period_seconds,
        latencies=tuple(
            RegionLatency(
                client_region=latency.client_region,
                plane_region=latency.plane_region,
                seconds=latency.milliseconds / 1000,
            )
            for latency in told.region_latencies
        ),
    )


def _refuse_keys(joining: JoiningSettings, path: Path) -> None:
    field = "joining.sealing_keys"
    try:
        check_references(joining.sealing_keys)
    except ValueError as fault:
        raise InvalidInput(f"settings {path} are wrong: {field}: {fault}", field=field) from None


def _refuse_open_dashboard(settings: ControlPlaneSettings) -> None:
    address, origin = settings.dashboard_address, settings.dashboard_origin
    if address is not None:
        host, _, port = address.rpartition(":")
        if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdecimal():
            raise InvalidInput(
                f"dashboard_address {address} is plaintext, so it must be HOST:PORT on loopback;"
                " a TLS proxy before it makes it public (dashboard_origin)",
                field="dashboard_address",
            )
    if origin is not None and (fault := origin_fault(origin)):
        raise InvalidInput(f"dashboard_origin {origin} {fault}", field="dashboard_origin")


def _refuse_open_port(settings: ControlPlaneSettings) -> None:
    """Refuse an operators' port to which others than this host's users may come unchecked."""
    address = settings.operator_address
    if address.rpartition(":")[0] in LOOPBACK_HOSTS:
        return
    if settings.operator_tls is None:
        raise InvalidInput(
            f"operator_address {address} is plaintext, so it must be on loopback; with"
            " operator_tls it need not be",
            field="operator_address",
        )
    if not settings.operator_access.required:
        raise InvalidInput(
            f"operator_address {address} is open to more than this host, so callers must show a"
            " credential: operator_access.required",
            field="operator_access.required",
        )


def _refuse_contradictions(told: SchedulerSettings, path: Path) -> None:
    pairs = Counter((each.client_region, each.plane_region) for each in told.region_latencies)
    for (client, plane), times in pairs.items():
        if times > 1:
            field = "scheduler.region_latencies"
            raise InvalidInput(
                f"settings {path} are wrong: {field}: from {client!r} to {plane!r} is told"
                f" {times} times; tell it once",
                field=field,
            )
