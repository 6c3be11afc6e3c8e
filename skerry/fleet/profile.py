"""What a replica yields, measured: per base model, engine, configuration and accelerator.

`skerry profile` measures it, the control plane's store keeps it, and the scheduler counts with it
where a deployment does not say its own throughput. Pure.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from skerry.fleet.deployment import (
    ACCELERATORS_OF_REPLICA_MAX,
    Deployment,
    ResourceShape,
    Revision,
    ServiceObjective,
)
from skerry.fleet.engine import EngineName, EngineSpec, is_version

STEPS_MAX = 32  # concurrencies of one profile: more tell no more
CONCURRENCY_MAX = 4_096
SECONDS_MAX = 86_400.0  # of any time that is measured here; longer is a fault of a clock
TOKENS_PER_SECOND_MAX = 1e9
COUNT_MAX = 10**9  # of requests and tokens of one step
URI_CHARACTERS_MAX = 2_048
SOFTWARE_CHARACTERS_MAX = 200
_DIGEST_CHARACTERS = 16  # of the name: among 10,000 profiles no two are alike by chance
_CONFIGURATIONS_MAX = 16_384  # remembered: a fleet asks for each of its few thousand every turn
# Told in the key by themselves, or of no weight for how fast ordinary requests are answered.
_NOT_CONFIGURATION = frozenset({"name", "version", "guided_decoding"})
_NOT_CONFIGURATION_OF: Mapping[str, frozenset[str]] = {
    "PrefixCaching": frozenset({"disk_path"}),
    "LoraAdapter": frozenset({"name", "uri"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileKey:
    """What was measured; `engine_version` is empty where the deployment leaves it out.

    `configuration` is the digest of the engine's configuration, `accelerators` those of a replica.
    """

    base_model: str
    engine: EngineName
    engine_version: str
    configuration: str
    accelerator: str
    accelerators: int

    @property
    def name(self) -> str:
        """Return the name that a profile of this key has: a DNS label."""
        told = [str(getattr(self, field.name)) for field in fields(self)]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        return f"{self.engine}-{digest[:_DIGEST_CHARACTERS]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileStep:
    """What a replica yields with so many requests at once; times in seconds.

    `requests` is how many times to a first token were measured, `itl_samples` how many between
    tokens; `tpot_p99_seconds` is of the requests' means.
    """

    concurrency: int
    requests: int
    ttft_p50_seconds: float
    ttft_p99_seconds: float
    itl_samples: int
    itl_p50_seconds: float
    itl_p99_seconds: float
    tpot_p99_seconds: float
    output_tokens_per_second: float
    prompt_tokens_per_second: float

    def __post_init__(self) -> None:
        """Refuse what nobody can have measured."""
        _check_count(self.concurrency, "concurrency", 1, CONCURRENCY_MAX)
        _check_count(self.requests, "requests", 1, COUNT_MAX)
        _check_count(self.itl_samples, "itl_samples", 0, COUNT_MAX)
        for field in fields(self):
            if field.name.endswith("_tokens_per_second"):
                _check_number(getattr(self, field.name), field.name, TOKENS_PER_SECOND_MAX)
            elif field.name.endswith("_seconds"):
                _check_number(getattr(self, field.name), field.name, SECONDS_MAX)
        if self.output_tokens_per_second <= 0.0:
            raise ValueError("output_tokens_per_second must be above 0")

    def meets(self, objective: ServiceObjective) -> bool:
        """Say whether 99 of 100 requests had their first token, and the others, in time."""
        return (
            self.ttft_p99_seconds <= objective.ttft_seconds
            and self.tpot_p99_seconds <= objective.tpot_seconds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Measured figures of one key, whose `name` follows from the rest of it.

    `prompt_tokens` and `output_tokens` are the mean request's; `load_seconds` is from the start of
    the replica to its first answer, 0 when it is not known.
    """

    name: str
    base_model: str
    engine: str
    engine_version: str
    configuration: str
    accelerator: str
    accelerators: int
    steps: tuple[ProfileStep, ...]
    measured_at: datetime
    prompt_tokens: int = 0
    output_tokens: int = 0
    load_seconds: float = 0.0
    software: str = ""

    def __post_init__(self) -> None:
        """Refuse a key that is none, steps that do not rise, and another key's name."""
        _check_key(self)
        if self.name != self.key.name:
            raise ValueError(f"name {self.name[:80]!r} must be {self.key.name!r}: it is of the key")
        levels = [step.concurrency for step in self.steps]
        if not 1 <= len(levels) <= STEPS_MAX or levels != sorted(set(levels)):
            raise ValueError(f"steps must be 1 to {STEPS_MAX} of rising concurrency, not {levels}")
        if self.measured_at.tzinfo is None:
            raise ValueError("measured_at must say its time zone")
        _check_count(self.prompt_tokens, "prompt_tokens", 0, COUNT_MAX)
        _check_count(self.output_tokens, "output_tokens", 0, COUNT_MAX)
        _check_number(self.load_seconds, "load_seconds", SECONDS_MAX)
        _check_text(self.software, "software", SOFTWARE_CHARACTERS_MAX)

    @property
    def key(self) -> ProfileKey:
        """Return what was measured."""
        return ProfileKey(
            base_model=self.base_model,
            engine=EngineName(self.engine),
            engine_version=self.engine_version,
            configuration=self.configuration,
            accelerator=self.accelerator,
            accelerators=self.accelerators,
        )

    @property
    def peak_tokens_per_second(self) -> float:
        """Return the most output tokens per second of any concurrency, however long they took."""
        return max(step.output_tokens_per_second for step in self.steps)

    def step_within(self, objective: ServiceObjective) -> ProfileStep | None:
        """Return the largest concurrency that meets an objective; None when none does."""
        return next((step for step in reversed(self.steps) if step.meets(objective)), None)


# Profiles by their key.
Profiles = Mapping[ProfileKey, Profile]


def profile_key(revision: Revision, shape: ResourceShape) -> ProfileKey:
    """Return the key of what a revision's replica yields on a shape."""
    return ProfileKey(
        base_model=revision.base_model.uri,
        engine=revision.engine.name,
        engine_version=revision.engine.version or "",
        configuration=configuration_digest(revision.engine),
        accelerator=shape.accelerator,
        accelerators=shape.accelerators,
    )


@lru_cache(maxsize=_CONFIGURATIONS_MAX)
def configuration_digest(engine: EngineSpec) -> str:
    """Return a digest of what of an engine's configuration decides how fast it is.

    Fields at their defaults are left out, so a release that knows more techniques has the same.
    """
    text = json.dumps(_told(engine, _NOT_CONFIGURATION), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def with_measured(deployment: Deployment, profiles: Profiles) -> Deployment:
    """Return the deployment with measured tokens/s in its shapes, at its own objective.

    It stays as it is where it says any itself, or where a shape has no profile that meets the
    objective: throughputs are compared, so a part of them tells nothing.
    """
    revision = deployment.revision
    if not profiles or any(shape.throughput_tokens_per_second for shape in revision.shapes):
        return deployment
    shapes = []
    for shape in revision.shapes:
        profile = profiles.get(profile_key(revision, shape))
        step = profile.step_within(revision.objective) if profile else None
        if step is None:
            return deployment
        speed = step.output_tokens_per_second
        shapes.append(replace(shape, throughput_tokens_per_second=speed))
    return replace(deployment, revision=replace(revision, shapes=tuple(shapes)))


def percentile(values: Sequence[float], hundredths: int) -> float:
    """Return the smallest of some values that so many of a hundred do not exceed; 0 of none."""
    return sorted(values)[-(-hundredths * len(values) // 100) - 1] if values else 0.0


def _told(value: Any, left_out: frozenset[str]) -> Any:
    """Return a configuration as JSON values, without fields at their defaults."""
    if isinstance(value, tuple):
        return [_told(one, _left_out_of(one)) for one in value]
    if not is_dataclass(value):
        return value
    found = {}
    for field in fields(value):
        one = getattr(value, field.name)
        made = field.default_factory
        default = made() if made is not MISSING else field.default
        if field.name not in left_out and one != default:
            found[field.name] = _told(one, _left_out_of(one))
    return found


def _left_out_of(value: Any) -> frozenset[str]:
    return _NOT_CONFIGURATION_OF.get(type(value).__name__, frozenset())


def _check_key(profile: Profile) -> None:
    _check_text(profile.base_model, "base_model", URI_CHARACTERS_MAX, least=1)
    if profile.engine not in list(EngineName):
        raise ValueError(f"engine {profile.engine[:80]!r} must be one of {', '.join(EngineName)}")
    if profile.engine_version and not is_version(profile.engine_version):
        raise ValueError("engine_version must look like 1.2 or 0.33.0, or be empty")
    digits = set(profile.configuration)
    if len(profile.configuration) != 64 or not digits <= set("0123456789abcdef"):
        raise ValueError("configuration must be 64 digits of 0-9 and a-f")
    _check_text(profile.accelerator, "accelerator", 63, least=1)
    _check_count(profile.accelerators, "accelerators", 1, ACCELERATORS_OF_REPLICA_MAX)


def _check_text(text: str, what: str, most: int, least: int = 0) -> None:
    if not least <= len(text) <= most or not text.isprintable():
        raise ValueError(f"{what} must be printable text of {least} to {most} characters")


def _check_count(count: int, what: str, least: int, most: int) -> None:
    if not least <= count <= most:
        raise ValueError(f"{what} must be {least}..{most}, not {count}")


def _check_number(number: float, what: str, most: float) -> None:
    if not (math.isfinite(number) and 0.0 <= number <= most):
        raise ValueError(f"{what} must be 0..{most:g}, not {number}")
