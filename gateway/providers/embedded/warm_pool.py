"""Spares: one blank beside each zygote that has just forked, for the start that comes next."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from gateway.providers.embedded.cgroups import Groups
from gateway.providers.embedded.unspecialized import Shape, UnspecializedProcess, make_unspecialized

LOG: Final = logging.getLogger(__name__)
# After the last start: making one takes a processor for 10 ms, which the first call may need.
QUIET: Final = 0.1


@dataclass(slots=True)
class _Entry:
    """What is kept for one zygote. timer: until the next spare is made."""

    shape: Shape
    request: Callable[[UnspecializedProcess], None]
    process: UnspecializedProcess | None = None
    timer: asyncio.TimerHandle | None = None


class WarmPool:
    """At most one spare for each key. groups: where their control groups are made."""

    def __init__(self, groups: Groups | None) -> None:
        self._groups = groups
        self._entries: dict[str, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, key: str, shape: Shape) -> UnspecializedProcess | None:
        """The spare of that shape, which is the caller's now."""
        entry = self._entries.get(key)
        if entry is None or entry.process is None or not entry.process.shape.fits(shape):
            return None
        process, entry.process = entry.process, None
        return process

    def want(self, key: str, shape: Shape, request: Callable[[UnspecializedProcess], None]) -> None:
        """Have a spare made once nothing has started for a moment. request: has it forked."""
        entry = self._entries.setdefault(key, _Entry(shape, request))
        entry.shape, entry.request = shape, request
        if entry.timer is not None:
            entry.timer.cancel()
        loop = asyncio.get_running_loop()
        entry.timer = loop.call_later(QUIET, lambda: self._spawn(self._make(key, entry)))

    def drop(self, key: str) -> None:
        """End the spare of a zygote that ends."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        if entry.timer is not None:
            entry.timer.cancel()
        if entry.process is not None:
            self._spawn(entry.process.discard())

    async def close(self) -> None:
        """End every spare."""
        for key in list(self._entries):
            self.drop(key)
        await asyncio.gather(*self._tasks)

    async def _make(self, key: str, entry: _Entry) -> None:
        shape = entry.shape
        if entry.process is not None:
            if entry.process.shape.fits(shape):
                return
            process, entry.process = entry.process, None
            await process.discard()
        name = f"spare-{token_hex(5)}"
        try:
            process = await asyncio.to_thread(make_unspecialized, self._groups, shape, name)
        except OSError as error:
            LOG.warning("no spare: error=%s", error)
            return
        if self._entries.get(key) is entry and entry.process is None:
            with suppress(OSError):  # the zygote ends, and with it the place
                entry.request(process)
                entry.process = process
                return
        await process.discard()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
