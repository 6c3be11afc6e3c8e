"""Clouds and regions among the catalogue's entries, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import catalogue
from control_plane.store.catalogue import CLOUDS, REGIONS, OnlyIf
from control_plane.store.changes import list_changes
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.planes import record_report
from control_plane.store.snapshot import load, renew
from skerry.fleet.catalogue import CLIENT_REGIONS_MAX, Cloud, Region
from skerry.plumbing.errors import Exhausted, NotFound
from tests.builders import a_report

LONGEST = f"{'a' * 63}/{'b' * 63}"
FULL = Region(
    name=LONGEST,
    description="far",
    client_latency_seconds=tuple((f"client-{n:03}", n / 100) for n in range(CLIENT_REGIONS_MAX)),
)


def test_a_region_of_the_longest_name_and_every_latency_is_kept_whole(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        made = catalogue.create_entry(session, write, REGIONS, FULL, "once")
    with database.write() as session:
        assert catalogue.create_entry(session, write, REGIONS, FULL, "once") == made
    with database.read() as session:
        assert catalogue.get_entry(session, REGIONS, LONGEST) == made
        assert made.value == FULL
        assert load(session).regions == (FULL,)
        newest = list_changes(session, 0, 10)[-1]
    assert (newest.kind, newest.subject) == (
        "region.created",
        f"projects/default/regions/{LONGEST}",
    )


def test_a_cloud_and_a_region_of_it_are_entries_of_their_own(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        catalogue.create_entry(session, write, CLOUDS, Cloud(name="aws"), "")
        catalogue.create_entry(session, write, REGIONS, Region(name="aws/eu"), "")
        catalogue.delete_entry(session, write, CLOUDS, "aws", "", "")
        with pytest.raises(NotFound, match="skerry get clouds"):
            catalogue.get_entry(session, CLOUDS, "aws")
        assert catalogue.get_entry(session, REGIONS, "aws/eu").value == Region(name="aws/eu")


def test_a_region_with_planes_can_be_forgotten(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        record_report(session, write, a_report("onprem-fra"))
        catalogue.create_entry(session, write, REGIONS, Region(name="onprem/fra"), "")
        catalogue.delete_entry(session, write, REGIONS, "onprem/fra", "", "")
        entries, planes = catalogue.list_with_planes(session, REGIONS)
    assert entries == ()
    assert [plane.identity.region for plane in planes] == ["fra"]


def test_a_clouds_change_renews_no_part_and_a_regions_only_its_own(
    database: Database, write: WriteContext
) -> None:
    later = replace(write, now=write.now + timedelta(seconds=1))
    with database.write() as session:
        record_report(session, write, a_report())
        held = load(session)
        catalogue.create_entry(session, later, CLOUDS, Cloud(name="aws"), "")
        renewed = renew(session, held)
        assert renewed == replace(held, sequence=held.sequence + 1)
        catalogue.update_entry(session, later, REGIONS, FULL, OnlyIf(allow_missing=True), "")
        again = renew(session, renewed)
        assert again == load(session)
    assert again.regions == (FULL,)
    assert again.planes is held.planes


def test_more_regions_than_are_kept_are_refused(database: Database, write: WriteContext) -> None:
    few = replace(REGIONS, entries_max=1)
    with database.write() as session:
        catalogue.create_entry(session, write, few, Region(name="aws/eu"), "")
        with pytest.raises(Exhausted, match="there are 1 entries of kind region"):
            catalogue.create_entry(session, write, few, Region(name="aws/us"), "")
