"""The clock, replaceable in tests, and the text form of times in the APIs."""

import asyncio
import math
import time
from datetime import UTC, datetime
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


def time_text(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds; None stays None."""
    if seconds is None or not math.isfinite(seconds):
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
