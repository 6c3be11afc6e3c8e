"""Profiles among the catalogue's entries, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import catalogue
from control_plane.store.catalogue import PROFILES, OnlyIf
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.snapshot import load, renew
from skerry.plumbing.errors import Exhausted, NotFound
from tests.builders import a_profile

MEASURED = a_profile({1: 100.0, 8: 400.0})


def test_a_profile_is_kept_whole_and_read_with_the_store(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        made = catalogue.create_entry(session, write, PROFILES, MEASURED, "once")
        assert catalogue.create_entry(session, write, PROFILES, MEASURED, "once") == made
    with database.read() as session:
        assert catalogue.get_entry(session, PROFILES, MEASURED.name).value == MEASURED
        assert load(session).profiles == (made,)


def test_newer_figures_take_the_place_of_older_ones(
    database: Database, write: WriteContext
) -> None:
    newer = replace(a_profile({1: 150.0}), measured_at=MEASURED.measured_at + timedelta(days=1))
    anew = OnlyIf(allow_missing=True)
    with database.write() as session:
        catalogue.update_entry(session, write, PROFILES, MEASURED, anew, "")
        held = load(session)
        catalogue.update_entry(session, write, PROFILES, newer, anew, "")
        assert [entry.value for entry in renew(session, held).profiles] == [newer]
        assert [entry.value for entry in load(session, held).profiles] == [newer]


def test_profiles_that_did_not_move_are_those_held(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        catalogue.create_entry(session, write, PROFILES, MEASURED, "")
        held = load(session)
        assert load(session, held).profiles is held.profiles


def test_a_profile_that_is_deleted_is_gone(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        catalogue.create_entry(session, write, PROFILES, MEASURED, "")
        held = load(session)
        catalogue.delete_entry(session, write, PROFILES, MEASURED.name, "", "")
        assert load(session, held).profiles == ()
        with pytest.raises(NotFound, match="skerry get profiles"):
            catalogue.get_entry(session, PROFILES, MEASURED.name)


def test_there_are_at_most_as_many_as_are_kept(database: Database, write: WriteContext) -> None:
    narrow = replace(PROFILES, entries_max=1)
    with database.write() as session:
        catalogue.create_entry(session, write, narrow, MEASURED, "")
        other = a_profile({1: 1.0}, base_model="hf://other/model")
        with pytest.raises(Exhausted, match="delete"):
            catalogue.create_entry(session, write, narrow, other, "")


def test_only_what_was_measured_anew_is_read_again(database: Database, write: WriteContext) -> None:
    others = [a_profile({1: 1.0}, base_model=f"hf://other/{n}") for n in range(3)]
    with database.write() as session:
        for profile in (MEASURED, *others):
            catalogue.create_entry(session, write, PROFILES, profile, "")
        held = load(session)
        catalogue.update_entry(session, write, PROFILES, a_profile({1: 2.0}), OnlyIf(), "")
        catalogue.delete_entry(session, write, PROFILES, others[0].name, "", "")
        catalogue.create_entry(session, write, PROFILES, a_profile({1: 1.0}, accelerators=2), "")
        again = load(session, held)
        assert again == load(session) == renew(session, held)
    before = {entry.value.name: entry for entry in held.profiles}
    for entry in again.profiles:
        same = entry.value.name in {other.name for other in others}
        assert (before.get(entry.value.name) is entry) is same
