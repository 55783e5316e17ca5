"""Time as the sources see it, so that tests can drive it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time and waiting."""

    def time(self) -> float:
        """Seconds since the epoch."""

    async def wait(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Return after `seconds`, or as soon as `event` is set."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        return time.time()

    async def wait(self, seconds: float, event: asyncio.Event | None = None) -> None:
        if event is None:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
