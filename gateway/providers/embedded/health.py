"""Whether a replica still answers, asked over its own socket."""

import asyncio
from typing import Final

from sluice.http_get import get

PATH: Final = "/_/health"
# A timer that is later than this means that the gateway itself was held up, not the replica.
LATE: Final = 0.5


async def answers(path: str, patience: float) -> bool:
    """Whether the replica at socket `path` gives any HTTP answer within `patience` seconds."""
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
