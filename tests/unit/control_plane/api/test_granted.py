"""Envelopes and placements by name follow what moved, and only that is made again."""

from pathlib import Path

import pytest

from control_plane.api import granted as module
from control_plane.api.granted import Granted, index_granted, placement_name
from control_plane.store import desired, placements
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.snapshot import StoreSnapshot, load, renew
from control_plane.store.values import StoredDesired, Told
from skerry.fleet.placement import Envelope, Placement
from tests.fakes.clock import START


class Store:
    """A store and the index of it, renewed step by step as the API does."""

    def __init__(self, path: Path) -> None:
        self.database: Database = open_database(f"sqlite:///{path}")
        with self.database.write() as session:
            epoch = take_leadership(session, "cp-1", START)
            self.write = WriteContext(epoch=epoch, actor="user:ana", now=START)
        self.seen: StoreSnapshot | None = None
        self.index: Granted | None = None

    def tell(self, plane: str, held: int, *envelopes: Envelope) -> None:
        told = Told(payload=b"", digest=f"{plane} {held}".encode(), envelopes=envelopes)
        with self.database.write() as session:
            desired.put_desired(session, self.write, plane, told, held)

    def place(self, *placed: Placement) -> None:
        with self.database.write() as session:
            placements.replace_placements(session, self.write, placed, "decided")

    def look(self) -> Granted:
        with self.database.read() as session:
            store = renew(session, self.seen)
            assert store == load(session)
        renewed = index_granted(store, self.seen, self.index)
        assert renewed == index_granted(store), "as if it were made anew"
        self.seen, self.index = store, renewed
        return renewed


def envelope(plane: str, deployment: str = "demo", ceiling: int = 2) -> Envelope:
    return Envelope(deployment=deployment, pool=f"{plane}--cpu", floor=0, target=0, ceiling=ceiling)


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Store:
    path = tmp_path / "skerry.db"
    path.write_bytes(empty_store.read_bytes())
    return Store(path)


def test_the_index_follows_what_is_told_and_placed(store: Store) -> None:
    assert store.look().placements == {}
    store.tell("fra", 0, envelope("fra"))
    store.tell("gcp", 0, envelope("gcp"), envelope("gcp", "other", ceiling=0))
    assert store.look().placements == {
        placement_name("default", "demo", f"{plane}--cpu"): Placement(
            deployment="demo", pool=f"{plane}--cpu", count=0, reason="being drained"
        )
        for plane in ("fra", "gcp")
    }
    placed = Placement(deployment="demo", pool="fra--cpu", count=2, reason="near")
    store.place(placed)
    assert store.look().placements[placement_name("default", "demo", "fra--cpu")] == placed
    store.tell("gcp", 1)
    assert list(store.look().placements.values()) == [placed]
    assert list(store.look().envelopes.values()) == [envelope("fra")]
    store.place()
    store.tell("fra", 1, envelope("fra", ceiling=0))
    assert store.look().placements == {}


def test_a_plane_that_was_told_nothing_new_is_not_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.tell("fra", 0)  # it has no rows: its payload is read
    store.tell("gcp", 0, envelope("gcp"))
    store.look()
    read: list[StoredDesired] = []
    envelopes = module._envelopes

    def counting(state: StoredDesired) -> tuple[Envelope, ...]:
        read.append(state)
        return envelopes(state)

    monkeypatch.setattr(module, "_envelopes", counting)
    store.tell("gcp", 1, envelope("gcp", ceiling=3))
    with store.database.read() as session:
        after = renew(session, store.seen)
    index_granted(after, store.seen, store.index)
    assert [state.version.generation for state in read] == [2]
    assert after.desired["fra"] is store.seen.desired["fra"] if store.seen else False


def test_what_did_not_move_is_the_same_index(store: Store) -> None:
    store.tell("fra", 0, envelope("fra"))
    first = store.look()
    assert store.look() is first
