"""Runs blocking work on a thread and waits for it even when the caller is cancelled."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_end(work: Callable[[], T]) -> T:
    """The result of `work`, run on a thread.

    A thread cannot be cancelled: a cancelled caller waits until it has ended, so that nothing is
    cleaned up that it still uses.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            # Retrieved, so that asyncio does not log it: the caller gets the cancellation instead.
            running.exception()
        raise
