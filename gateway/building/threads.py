"""Work that may not block the loop and may not be left half way either."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_end(work: Callable[[], T]) -> T:
    """The result of `work`, run on a thread. A thread cannot be cancelled: a cancelled caller
    waits until it has ended, so that nothing is cleaned up under its hands.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            # Seen here, so that it is not reported as forgotten: the cancellation goes first.
            running.exception()
        raise
