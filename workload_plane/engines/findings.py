"""What a renderer finds wrong with a spec, gathered field by field, and the checks that all share.

A refusal names the field as the deployment file has it, the engine and its version. A technique is
refused where the engine would not do what was asked; never left out instead.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from skerry.fleet.engine import EngineProtocol, EngineSpec
from workload_plane.engines.options import OptionRule, option_refusals
from workload_plane.engines.port import Refusal

ROOT = "spec.engine"
# What the plane fetches, or finds, as a directory; the rest of a URI its base-model cache checks.
_ADAPTER = re.compile(r"file:///.+|hf://[^/]+/[^/]+|(hf|s3|gs)://.+/")


@dataclass(slots=True, kw_only=True)
class Findings:
    """The refusals of one spec so far, under the engine's name and version."""

    engine: str
    version: str = ""
    found: list[Refusal] = field(default_factory=list)

    def refuse(self, path: str, message: str) -> None:
        """Add a refusal of the field at `path` below `spec.engine`."""
        who = f"{self.engine} {self.version}".strip()
        self.found.append(Refusal(path=f"{ROOT}.{path}", message=f"{who}: {message}"))

    def refuse_unless_in(
        self, path: str, value: str | None, known: Collection[str], remedy: str
    ) -> None:
        """Refuse a word that is none of the known ones."""
        if value is not None and value not in known:
            self.refuse(path, f"{value!r} is none of {', '.join(known)}; {remedy}")

    def refuse_options(self, spec: EngineSpec, rules: Sequence[OptionRule]) -> None:
        """Refuse every option that is off the list or out of its bounds."""
        for fault in option_refusals(spec.options, rules, self.engine):
            self.refuse("options", fault)

    def refuse_doubles(self, spec: EngineSpec, told: Mapping[str, tuple[str, bool]]) -> None:
        """Refuse an option that says again what a field of its own says: option -> (field, set)."""
        for name, _ in spec.options:
            path, is_set = told.get(name, ("", False))
            if is_set:
                self.refuse("options", f"option {name!r} says again what {path} says; keep one")

    def result(self) -> tuple[Refusal, ...]:
        """Return all that was refused."""
        return tuple(self.found)


def release_of(spec: EngineSpec, known: Sequence[str], default: str) -> str | None:
    """Return the known release line that a spec's version is of; None for one that is unknown.

    A line is `1.2`; `1.2`, `1.2.1` and `1.2.0rc3` are of it.
    """
    return default if spec.version is None else line_of(spec.version, known)


def line_of(version: str, known: Sequence[str]) -> str | None:
    """Return the known release line that a version is of; None for one that is unknown."""
    for line in known:
        rest = version.removeprefix(line)
        if rest != version and not rest[:1].isdigit():
            return line
    return None


def findings_of(spec: EngineSpec, known: Sequence[str], default: str) -> tuple[Findings, str]:
    """Return where to put refusals, and the release line; an unknown version is refused already."""
    release = release_of(spec, known, default)
    findings = Findings(engine=spec.name.value, version=release or default)
    if release is None and known:
        findings.refuse(
            "version",
            f"{spec.version} is not known here; known are {', '.join(known)}:"
            " name the one whose flags yours takes",
        )
    elif release is None:
        findings.refuse("version", "comes with the plane's own installation; leave it out")
    return findings, release or default


def refuse_protocol(findings: Findings, spec: EngineSpec) -> None:
    """Refuse everything but HTTP, for engines that serve no gRPC that is passed on."""
    if spec.protocol is EngineProtocol.TRTLLM:
        findings.refuse(
            "protocol",
            "does not serve trtllm.TrtllmService; leave it out: the replica host serves"
            " openengine.v1, or choose tensorrt-llm 1.4",
        )
    elif spec.protocol is not EngineProtocol.HTTP:
        findings.refuse(
            "protocol",
            f"does not serve {spec.protocol} itself; leave it out: the replica host translates",
        )


def refuse_disaggregation(findings: Findings, spec: EngineSpec, why: str) -> None:
    """Refuse prefill and decode apart."""
    if spec.disaggregation is not None:
        findings.refuse("disaggregation", f"{why}; remove it")


def refuse_caching_without_cache(findings: Findings, spec: EngineSpec) -> None:
    """Refuse a spill to host memory or disk of a cache that is off."""
    caching = spec.prefix_caching
    if caching.enabled:
        return
    if caching.host_memory_bytes:
        findings.refuse("prefixCaching.hostMemory", "caching is off; enable it or drop the bytes")
    if caching.disk_path:
        findings.refuse("prefixCaching.diskPath", "caching is off; enable it or drop the path")


def refuse_disk_without_host(findings: Findings, spec: EngineSpec) -> None:
    """Refuse a disk tier without the host memory that all of it passes through."""
    caching = spec.prefix_caching
    if caching.disk_path and not caching.host_memory_bytes:
        findings.refuse(
            "prefixCaching.diskPath", "blocks reach the disk through host memory; set hostMemory"
        )


def refuse_adapter_places(findings: Findings, spec: EngineSpec) -> None:
    """Refuse adapters that are no directory: the weights need adapter_config.json beside them."""
    for index, adapter in enumerate(spec.lora.adapters if spec.lora else ()):
        if not _ADAPTER.fullmatch(adapter.uri.partition("#")[0]):
            findings.refuse(
                f"lora.adapters[{index}].uri",
                f"{adapter.uri!r} is no directory, and weights alone do not do; name"
                " hf://OWNER/NAME[@REVISION], s3://BUCKET/DIR/, gs://BUCKET/DIR/ or file:///DIR",
            )
