"""Users at every gateway while something breaks, and what each of their requests came to."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

from tests.compose.fleet import PLANES, Fleet

PAUSE_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """How many requests each gateway was sent, and what went wrong with which."""

    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PLANES, 0))
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def users(fleet: Fleet, key: str) -> Iterator[Ledger]:
    """Ask every gateway, one request after another, until the block ends; yield the ledger."""
    ledger, stop = Ledger(), Event()

    def ask(plane: str) -> None:
        while not stop.is_set():
            fault = fleet.chat(plane, key)
            ledger.asked[plane] += 1
            if fault:
                ledger.failures.append(f"{plane}, request {ledger.asked[plane]}: {fault}")
            stop.wait(PAUSE_SECONDS)

    with ThreadPoolExecutor(len(PLANES)) as pool:
        running = [pool.submit(ask, plane) for plane in PLANES]
        try:
            yield ledger
        finally:
            stop.set()
    for one in running:
        one.result()
