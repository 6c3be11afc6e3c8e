"""Streams sent at their own moments, whatever became of those before; who failed is told."""

import asyncio
from collections.abc import Callable

import aiohttp

from skerry.plumbing.clock import Clock


class OpenLoop:
    """A load of streamed completions through one gateway, without any retry."""

    def __init__(
        self, gateway: str, model: str, session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        """Ask `model` at the gateway's address; nothing is sent yet."""
        self._url = f"http://{gateway}/v1/completions"
        self._model = model
        self._session = session
        self._clock = clock
        self.tokens = 50
        self.answers: list[str] = []  # "" for one that came whole

    async def ask(self) -> None:
        """Send one request and note what became of it."""
        body = {"model": self._model, "prompt": "hello", "max_tokens": self.tokens, "stream": True}
        try:
            async with self._session.post(self._url, json=body) as answer:
                text = await answer.text()
                is_whole = answer.status == 200 and text.rstrip().endswith("[DONE]")
                self.answers.append("" if is_whole else f"{answer.status}: {text[-200:]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers.append(repr(error))

    async def send(self, rate: float, until: Callable[[], object], seconds_max: float) -> None:
        """Send so many a second until something holds, then wait for all the answers."""
        async with asyncio.timeout(seconds_max), asyncio.TaskGroup() as group:
            while not until():
                group.create_task(self.ask())
                await self._clock.sleep(1.0 / rate)

    @property
    def failed(self) -> list[str]:
        """Return what was told instead of a whole answer."""
        return [told for told in self.answers if told]
