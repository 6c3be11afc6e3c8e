"""Write the bill of materials: every locked package with version, hashes, licence and its needs.

`make sbom` does. From requirements.lock and the metadata of what is installed; the same lock and
the same installed packages make the same bytes: no time, unless SOURCE_DATE_EPOCH tells one, and a
serial number that is the content's own. CycloneDX 1.6, by the CycloneDX project's library.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
OUTPUT = ROOT / "build" / "sbom.json"
# What is installed where Skerry runs; the rest builds and tests it.
RUNTIME_EXTRAS = ("control", "plane")
ALL_EXTRAS = (*RUNTIME_EXTRAS, "dev")
MARKER_PROPERTY = "skerry:marker"
# A licence's name; longer ones are the whole text, which the package itself holds.
LICENCE_CHARACTERS_MAX = 64

# A package by its canonical name, and the extras of it that are needed.
Need = tuple[str, frozenset[str]]

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A package of the lock: any of the hashes is that of a file that may be installed."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> PackageURL:
        """Return its package URL, which is its reference in the bill, too."""
        return PackageURL(type="pypi", name=self.name, version=self.version)


def read_lock(text: str) -> tuple[Locked, ...]:
    """Return the packages of a lock; ValueError for one that is not pinned or has no hash."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        told = line.partition(" --")[0].strip()
        if not told or told.startswith("#"):
            continue
        requirement = Requirement(told)
        (pin,) = requirement.specifier
        hashes = tuple(sorted(_HASH.findall(line)))
        if pin.operator != "==" or not hashes or len(hashes) != line.count("--hash="):
            raise ValueError(f"{told} is not locked by version and SHA-256; run `make lock`")
        found.append(
            Locked(
                name=canonicalize_name(requirement.name),
                version=pin.version,
                marker=str(requirement.marker or ""),
                hashes=hashes,
            )
        )
    return tuple(found)


def installed() -> Mapping[str, metadata.Distribution]:
    """Return what is installed here, by canonical name."""
    return {canonicalize_name(one.metadata["Name"]): one for one in metadata.distributions()}


def direct(project: Mapping[str, Any], extras: Sequence[str]) -> list[str]:
    """Return what a project of pyproject.toml requires itself, with these extras."""
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in extras for one in optional[extra])]


def needed_by(extras: Sequence[str], requires: Iterable[str]) -> Iterator[Need]:
    """Yield (name, extras) of the requirements that hold here, for any of these extras."""
    for text in requires:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def reached(start: Iterable[Need], here: Mapping[str, metadata.Distribution]) -> frozenset[str]:
    """Return the names of all that these requirements need, as far as it is installed."""
    seen: set[Need] = set()
    waiting = list(start)
    while waiting:
        name, extras = one = waiting.pop()
        if one in seen or name not in here:
            continue
        seen.add(one)
        waiting += needed_by(sorted(extras), here[name].requires or ())
    return frozenset(name for name, _ in seen)


def licences_of(found: Any) -> tuple[License, ...]:
    """Return what a package says of its licence: an expression, else a name, else classifiers."""
    make = LicenseFactory().make_from_string
    named = found.get("License-Expression") or (found.get("License") or "").strip()
    if named and len(named) <= LICENCE_CHARACTERS_MAX and "\n" not in named:
        return (make(named),)
    classifiers = found.get_all("Classifier") or ()
    names = {text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")}
    return tuple(make(name) for name in sorted(names))


def bill(lock: str, project: Mapping[str, Any], now: datetime | None) -> Bom:
    """Return the bill of materials of a lock and of what is installed here."""
    packages, here = read_lock(lock), installed()
    at_runtime = reached(needed_by((), direct(project, RUNTIME_EXTRAS)), here)
    components = {one: _component(one, here, at_runtime) for one in packages}
    root = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=str(PackageURL(type="pypi", name=project["name"], version=project["version"])),
        licenses=(LicenseFactory().make_from_string(project["license"]),),
    )
    made = Bom(components=components.values(), serial_number=_serial(lock, root))
    made.metadata.component = root
    made.metadata.timestamp = now  # type: ignore[assignment]
    _depend(made, root, needed_by((), direct(project, ALL_EXTRAS)), components)
    for one, component in components.items():
        if (found := _installed_as(one, here)) is not None:
            _depend(made, component, needed_by((), found.requires or ()), components)
    return made


def written(made: Bom) -> str:
    """Return the bill as text, its keys in order."""
    told = json.loads(JsonV1Dot6(made).output_as_string())
    return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _component(
    one: Locked, here: Mapping[str, metadata.Distribution], at_runtime: frozenset[str]
) -> Component:
    found = _installed_as(one, here)
    scope = ComponentScope.REQUIRED if one.name in at_runtime else ComponentScope.EXCLUDED
    return Component(
        name=one.name,
        version=one.version,
        type=ComponentType.LIBRARY,
        purl=one.purl,
        bom_ref=str(one.purl),
        # Of a package that is for other machines alone nothing here says which they need.
        scope=scope if found is not None else ComponentScope.OPTIONAL,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in one.hashes],
        licenses=licences_of(found.metadata) if found is not None else (),
        properties=[Property(name=MARKER_PROPERTY, value=one.marker)] if one.marker else (),
    )


def _installed_as(
    one: Locked, here: Mapping[str, metadata.Distribution]
) -> metadata.Distribution | None:
    found = here.get(one.name)
    return found if found is not None and found.version == one.version else None


def _depend(
    made: Bom,
    component: Component,
    needs: Iterable[Need],
    components: Mapping[Locked, Component],
) -> None:
    names = {name for name, _ in needs}
    made.register_dependency(
        component, [other for one, other in components.items() if one.name in names]
    )


def _serial(lock: str, root: Component) -> uuid.UUID:
    content = hashlib.sha256(lock.encode()).hexdigest()
    return uuid.uuid5(uuid.NAMESPACE_URL, f"skerry {root.version} {content}")


def main(arguments: Sequence[str]) -> int:
    """Write the bill and say where; 0."""
    parser = argparse.ArgumentParser(description="Write the bill of materials (CycloneDX, JSON).")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    output: Path = parser.parse_args(arguments).output
    told = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(told), UTC) if told else None
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    made = bill(LOCK.read_text(encoding="utf-8"), project, now)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(written(made), encoding="utf-8")
    print(f"{output}: {len(made.components)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
