"""How the demo shows where it is: a spinner with live figures on a terminal, else plain lines."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

STEPS = 6


class Display:
    """Tells the story's steps as they happen."""

    def __init__(self, console: "Console") -> None:
        """Write to the console."""
        self.console = console
        self._status = console.status("") if console.is_terminal else None
        self._step = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Show the spinner for the block, if the console can."""
        if self._status is None:
            yield
            return
        with self._status:
            yield

    def step(self, number: int, title: str) -> None:
        """Begin a step of the story."""
        self._step = f"[{number}/{STEPS}]"
        self.console.print(f"{self._step} {title}", style="bold")
        self.live("")

    def say(self, text: str) -> None:
        """Tell something that happened."""
        self.console.print(f"      {text}")

    def live(self, figures: str) -> None:
        """Show figures that change all the time; a pipe does not get them."""
        if self._status is not None:
            self._status.update(f"{self._step} {figures}")
