"""Spares: one blank beside each zygote that has just forked, for the start that comes next."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from gateway.providers.embedded.cgroups import Groups
from gateway.providers.embedded.unspecialized import Blank, Shape, make_blank

LOG: Final = logging.getLogger(__name__)
# After the last start: making one takes a processor for 10 ms, which the first call may need.
QUIET: Final = 0.1


@dataclass(slots=True)
class _Place:
    """What is kept for one zygote. timer: until the next spare is made."""

    shape: Shape
    request: Callable[[Blank], None]
    spare: Blank | None = None
    timer: asyncio.TimerHandle | None = None


class Spares:
    """At most one spare for each key. groups: where their control groups are made."""

    def __init__(self, groups: Groups | None) -> None:
        self._groups = groups
        self._places: dict[str, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, key: str, shape: Shape) -> Blank | None:
        """The spare of that shape, which is the caller's now."""
        place = self._places.get(key)
        if place is None or place.spare is None or not place.spare.shape.fits(shape):
            return None
        spare, place.spare = place.spare, None
        return spare

    def want(self, key: str, shape: Shape, request: Callable[[Blank], None]) -> None:
        """Have a spare made once nothing has started for a moment. request: has it forked."""
        place = self._places.setdefault(key, _Place(shape, request))
        place.shape, place.request = shape, request
        if place.timer is not None:
            place.timer.cancel()
        loop = asyncio.get_running_loop()
        place.timer = loop.call_later(QUIET, lambda: self._spawn(self._make(key, place)))

    def drop(self, key: str) -> None:
        """End the spare of a zygote that ends."""
        place = self._places.pop(key, None)
        if place is None:
            return
        if place.timer is not None:
            place.timer.cancel()
        if place.spare is not None:
            self._spawn(place.spare.discard())

    async def close(self) -> None:
        """End every spare."""
        for key in list(self._places):
            self.drop(key)
        await asyncio.gather(*self._tasks)

    async def _make(self, key: str, place: _Place) -> None:
        shape = place.shape
        if place.spare is not None:
            if place.spare.shape.fits(shape):
                return
            spare, place.spare = place.spare, None
            await spare.discard()
        name = f"spare-{token_hex(5)}"
        try:
            spare = await asyncio.to_thread(make_blank, self._groups, shape, name)
        except OSError as error:
            LOG.warning("no spare: error=%s", error)
            return
        if self._places.get(key) is place and place.spare is None:
            with suppress(OSError):  # the zygote ends, and with it the place
                place.request(spare)
                place.spare = spare
                return
        await spare.discard()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
