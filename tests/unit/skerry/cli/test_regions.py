"""`skerry cloud|region set`, `delete` and `get`: what is sent, and what people read."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from skerry.cli import session
from skerry.cli.main import run
from skerry.client.catalogue_calls import CLOUDS, REGIONS, EntryKind, set_entry
from skerry.client.operator_calls import EVERY, Which
from skerry.client.rows import EntryRow
from skerry.fleet.catalogue import Cloud, Region

HERE = "onprem/fra"


class Catalogue:
    """A catalogue that keeps what it is told, and one region that planes report."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def set_entry(self, kind: EntryKind[Any], value: Any, etag: str = "") -> EntryRow[Any]:
        # As the client does, to know that every value can be sent and read back.
        call = set_entry("default", kind, value, etag, "request-1")
        message = getattr(call.request, kind.field)
        message.create_time.FromDatetime(datetime(2030, 1, 1))  # noqa: DTZ001
        message.planes.append("onprem-fra")
        self.kept[value.name] = value
        return call.read(message)

    def list_entries(self, kind: EntryKind[Any], which: Which = EVERY) -> tuple[EntryRow[Any], ...]:
        reported = EntryRow(
            value=kind.value(name=HERE if kind is REGIONS else "onprem"),
            etag="",
            created_at=None,
            updated_at=None,
            planes=("onprem-fra", "onprem-two"),
        )
        return (reported,)

    def delete_entry(self, kind: EntryKind[Any], name: str) -> None:
        assert kind in (CLOUDS, REGIONS)
        del self.kept[name]


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    told = Catalogue()

    @contextmanager
    def connect(_: session.Session) -> Iterator[Catalogue]:
        yield told

    monkeypatch.setattr(session.Session, "operator", connect)
    return told


def test_a_region_is_set_with_its_latencies(
    catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--latency", "us-east=0.09", "--latency", "eu-west=0.0125"]
    assert run(["region", "set", HERE, *arguments, "--description", "ours"]) == 0
    told = (("eu-west", 0.0125), ("us-east", 0.09))
    assert catalogue.kept == {
        HERE: Region(name=HERE, description="ours", client_latency_seconds=told)
    }
    shown = capsys.readouterr().out
    assert "eu-west 12.5 ms, us-east 90 ms" in shown
    assert HERE in shown
    assert "onprem-fra" in shown


def test_a_cloud_is_set_and_deleted(
    catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cloud", "set", "onprem", "--description", "ours"]) == 0
    assert catalogue.kept == {"onprem": Cloud(name="onprem", description="ours")}
    assert run(["delete", "cloud", "onprem"]) == 0
    assert catalogue.kept == {}
    assert "cloud onprem deleted" in capsys.readouterr().out


def test_a_region_is_deleted_by_both_its_names(catalogue: Catalogue) -> None:
    assert run(["region", "set", HERE]) == 0
    assert run(["delete", "region", HERE]) == 0
    assert catalogue.kept == {}


@pytest.mark.parametrize("kind", ["clouds", "cloud", "regions", "region"])
def test_what_planes_report_is_listed_as_not_registered(
    kind: str, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["get", kind]) == 0
    title, line = capsys.readouterr().out.splitlines()
    assert title.split()[:3] == ["NAME", "REGISTERED", "PLANES"]
    assert line.split()[1:4] == ["no", "onprem-fra,", "onprem-two"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["region", "set", "fra"], "must look like CLOUD/REGION"),
        (["region", "set", HERE, "--latency", "eu"], "must look like CLIENT_REGION=SECONDS"),
        (["region", "set", HERE, "--latency", "eu=soon"], "must look like CLIENT_REGION=SECONDS"),
        (["region", "set", HERE, "--latency", "=1"], "must look like CLIENT_REGION=SECONDS"),
        (["region", "set", HERE, "--latency", "eu=12"], "must be 0..10 seconds"),
        (["region", "set", HERE, "--latency", "eu=nan"], "must be 0..10 seconds"),
        (["region", "set", HERE, "--latency", "eu=1", "--latency", "eu=2"], "'eu' twice"),
        (["cloud", "set", "My Cloud"], "must be 1-63 characters"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    arguments: list[str],
    said: str,
    catalogue: Catalogue,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
    assert catalogue.kept == {}
