"""Checks by a request whether a replica still responds."""

import asyncio
from typing import Final

from sluice.http_get import get

PATH: Final = "/_/health"
# Seconds. A timer that is later than this was late because the gateway was blocked: ask again.
LATE: Final = 0.5


async def responds(path: str, patience: float) -> bool:
    """Whether the replica at socket `path` gives any HTTP response within `patience` seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + patience
        try:
            return await asyncio.wait_for(_ask(path), patience)
        except TimeoutError:
            if loop.time() - due < LATE:
                return False


async def _ask(path: str) -> bool:
    try:
        return (await get(path, PATH)).status != 0
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
