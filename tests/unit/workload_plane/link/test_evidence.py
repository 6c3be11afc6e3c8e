"""Records of where requests went are told from where the control plane has them, piece by piece."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control_plane.link.evidence import INBOX_CHARACTERS_MAX, EvidenceInbox
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.change_chain import Link
from skerry.fleet.residency import Record, link_of
from tests.fakes.clock import FakeClock
from workload_plane.link.evidence import ANSWER_SECONDS_MAX, EvidenceTelling


class Keeper:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.chain = "c1"
        self.faults: list[str] = []
        self.links: list[Link] = []

    def grow(self, count: int) -> None:
        for _ in range(count):
            number = len(self.links) + 1
            record = Record(sequence=number, chain=self.chain, from_ms=number, to_ms=number + 1)
            self.links.append(link_of(record, self.links[-1].digest if self.links else None))
        self.news.set()

    async def after(self, chain: str, sequence: int) -> tuple[str, tuple[Link, ...]]:
        start = sequence if chain == self.chain else 0
        return self.chain, tuple(self.links[start : start + 2])

    async def refused(self, chain: str, fault: str) -> None:
        self.faults.append(fault)
        self.chain, self.links = "c2", []
        self.grow(1)


class Store:
    """The control plane's side."""

    def __init__(self, kept: int = 0) -> None:
        self.kept = {"c1": kept}
        self.asked = 0
        self.reports: asyncio.Queue[messages.ResidencyReport] = asyncio.Queue()

    async def send(self, request: messages.ConnectRequest) -> None:
        self.reports.put_nowait(request.residency)

    async def answer(self, telling: EvidenceTelling, fault: str = "") -> list[int]:
        report = await self.reports.get()
        numbers = [record.sequence for record in report.records]
        self.kept[report.chain] = max([self.kept.get(report.chain, 0), *numbers])
        taken = messages.ResidencyTaken(
            chain=report.chain, sequence=self.kept[report.chain], fault=fault
        )
        telling.came(taken)
        return numbers


@asynccontextmanager
async def told(keeper: Keeper, store: Store, clock: FakeClock) -> AsyncIterator[EvidenceTelling]:
    """Yield what one connection tells, to a control plane that takes it."""
    telling = EvidenceTelling(keeper, clock)
    telling.may_tell.set()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(telling.tell_for_ever(store.send))
        yield telling
        task.cancel()


async def test_it_goes_on_where_the_control_plane_has_them_and_tells_what_is_new() -> None:
    keeper, store = Keeper(), Store(kept=1)
    keeper.grow(4)
    async with told(keeper, store, FakeClock()) as telling:
        assert [await store.answer(telling) for _ in range(3)] == [[], [2, 3], [4]]
        keeper.grow(1)
        assert await store.answer(telling) == [5]


async def test_what_was_told_otherwise_before_begins_a_new_chain() -> None:
    keeper, store = Keeper(), Store()
    keeper.grow(1)
    fault = "record 1 was told otherwise before"
    async with told(keeper, store, FakeClock()) as telling:
        await store.answer(telling, fault=fault)
        assert await store.answer(telling) == []
        assert await store.answer(telling) == [1]
    assert (keeper.faults, store.kept["c2"]) == ([fault], 1)


async def test_without_an_answer_it_asks_again() -> None:
    keeper, store, clock = Keeper(), Store(), FakeClock()
    keeper.grow(1)
    async with told(keeper, store, clock) as telling:
        assert not (await store.reports.get()).records
        await clock.run_for(ANSWER_SECONDS_MAX + 1)
        assert await store.answer(telling) == []
        assert await store.answer(telling) == [1]


def test_the_inbox_is_bounded_and_holds_the_last_of_each_plane() -> None:
    inbox = EvidenceInbox()
    content = "x" * 200_000
    records = [messages.ResidencyRecord(sequence=i, content=content) for i in range(1, 5)]
    report = messages.ResidencyReport(chain="c", records=records)
    planes = INBOX_CHARACTERS_MAX // (4 * len(content)) + 3
    for number in range(planes):
        inbox.put(f"p{number}", report)
        inbox.put(f"p{number}", report)
    found = inbox.take(planes)
    assert len(found) == planes - 3
    assert inbox.take(planes) == ()
    with pytest.raises(ValueError, match="no chain"):
        inbox.put("p0", messages.ResidencyReport())
