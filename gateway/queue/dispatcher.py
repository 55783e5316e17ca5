"""Which entry runs next: many keys, each with its own bound, and no key delays another.

A key is a function, or a host that is called back. Each key has a few leased entries at hand; the
keys that have some take turns. No I/O here: `lease` and `begin` do it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, TypeVar

from gateway.queue.store import Backlog, Lease, Leased

T = TypeVar("T")

# Entries at hand of one key: one lease then serves a hundred calls.
MOST_AT_HAND: Final = 128
# Two clocks may differ a little about a due time: do not spin until it has passed.
LEAST_WAIT: Final = 0.005


class Refill(Enum):
    """What a lane knows of its key's entries in the store."""

    NOT_NEEDED = "none is due"
    NEEDED = "some may be due"
    LEASING = "some may be due, and a lease is under way"


REFILLS: Final = {
    Refill.NOT_NEEDED: frozenset({Refill.NEEDED}),
    Refill.NEEDED: frozenset({Refill.LEASING}),
    Refill.LEASING: frozenset({Refill.NEEDED, Refill.NOT_NEEDED}),
}


@dataclass(slots=True)
class _Lane(Generic[T]):
    """One key: its leased entries that were not begun, and how many run."""

    key: str
    ready: deque[T] = field(default_factory=deque)
    running: int = 0
    refill: Refill = Refill.NOT_NEEDED

    def become(self, refill: Refill) -> None:
        if refill not in REFILLS[self.refill]:
            raise RuntimeError(f"{self.key}: {refill.name} cannot follow {self.refill.name}")
        self.refill = refill


class Dispatcher(Generic[T]):
    """Leases entries by key and begins them in turn.

    total: how many run at once at most. limit: the same for one key, asked for each time. begin:
    starts an entry; a call of `ended` must follow. lease: later calls back with what it leased.
    """

    def __init__(
        self,
        total: int,
        limit: Callable[[str], int],
        begin: Callable[[T], None],
        lease: Callable[[Lease, Callable[[Leased[T]], None]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._total, self._limit, self._begin, self._lease = total, limit, begin, lease
        self._clock = clock
        self._lanes: dict[str, _Lane[T]] = {}
        # Lanes with entries at hand, next first.
        self._ready_lanes: deque[_Lane[T]] = deque()
        # Lanes of which the store may have entries that are due.
        self._needs_refill: dict[str, _Lane[T]] = {}
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._pumping = False
        self.running = 0
        self.stopped = True

    @property
    def keys(self) -> set[str]:
        """Keys with entries that run, are at hand or may be in the store."""
        return set(self._lanes)

    def start(self, backlog: Iterable[Backlog]) -> None:
        """Begin with the entries in the store."""
        self.stopped = False
        self.adopt(backlog)

    def adopt(self, backlog: Iterable[Backlog]) -> None:
        """Run entries that are in the store already."""
        for each in backlog:
            self.wake_at(each.key, each.due)

    def stop(self) -> list[T]:
        """Begin no more entries; returns those at hand that were not begun."""
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        left = [entry for lane in self._lanes.values() for entry in lane.ready]
        for lane in self._lanes.values():
            lane.ready.clear()
        self._ready_lanes.clear()
        return left

    def wake(self, key: str) -> None:
        """The store has an entry of `key` that is due."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
        elif lane.refill is not Refill.NOT_NEEDED:
            return
        lane.become(Refill.NEEDED)
        self._needs_refill[key] = lane
        self.pump_soon()

    def wake_at(self, key: str, due: float) -> None:
        """The store has an entry of `key` that is due at `due`, seconds since the epoch."""
        if due <= self._clock():
            self.wake(key)
        elif due < self._due.get(key, float("inf")):
            self._due[key] = due
            if due < self._timer_due:
                self._set_timer(due)

    def ended(self, key: str) -> None:
        """An entry of `key` that was begun has ended."""
        self.running -= 1
        lane = self._lanes[key]
        lane.running -= 1
        self._forget_idle(lane)
        self.pump_soon()

    def take(self, key: str, wanted: Callable[[T], bool]) -> T | None:
        """Take the entry at hand that is `wanted`, so that it is not begun; None without one."""
        lane = self._lanes.get(key)
        found = next((entry for entry in lane.ready if wanted(entry)), None) if lane else None
        if lane is not None and found is not None:
            lane.ready.remove(found)
            if not lane.ready:
                self._ready_lanes.remove(lane)
        return found

    def give_back(self, key: str, entry: T) -> None:
        """Begin an entry that was taken after all, before others of `key`."""
        lane = self._lanes.setdefault(key, _Lane(key))
        if not lane.ready:
            self._ready_lanes.append(lane)
        lane.ready.appendleft(entry)
        self.pump_soon()

    def pump_soon(self) -> None:
        """Call `pump` at the end of this turn of the loop."""
        if not self._pumping and not self.stopped:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Begin as many entries as the bounds allow, and lease more for lanes that run short."""
        self._pumping = False
        if self.stopped:
            return
        ready_lanes, passed = self._ready_lanes, 0
        while passed < len(ready_lanes) and self.running < self._total:
            lane = ready_lanes.popleft()
            if lane.running >= self._limit(lane.key):
                ready_lanes.append(lane)
                passed += 1
                continue
            passed = 0
            entry = lane.ready.popleft()
            if lane.ready:
                ready_lanes.append(lane)
            lane.running += 1
            self.running += 1
            self._begin(entry)
        for lane in list(self._needs_refill.values()):
            self._refill(lane)

    def _refill(self, lane: _Lane[T]) -> None:
        if lane.refill is not Refill.NEEDED:
            return
        wanted = min(2 * self._limit(lane.key), MOST_AT_HAND)
        if wanted and len(lane.ready) <= wanted // 2:
            lane.become(Refill.LEASING)
            request = Lease(lane.key, wanted - len(lane.ready), self._clock())
            self._lease(request, lambda leased: self._refilled(lane, leased))

    def _refilled(self, lane: _Lane[T], leased: Leased[T]) -> None:
        if leased.entries:
            if not lane.ready:
                self._ready_lanes.append(lane)
            lane.ready.extend(leased.entries)
        if leased.due is None:
            lane.become(Refill.NEEDED)
        else:
            lane.become(Refill.NOT_NEEDED)
            del self._needs_refill[lane.key]
            if leased.due != float("inf"):
                self.wake_at(lane.key, max(leased.due, self._clock() + LEAST_WAIT))
            self._forget_idle(lane)
        self.pump_soon()

    def _forget_idle(self, lane: _Lane[T]) -> None:
        if not (lane.ready or lane.running or lane.refill is not Refill.NOT_NEEDED):
            self._lanes.pop(lane.key, None)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        wait = max(LEAST_WAIT, due - self._clock())
        self._timer = asyncio.get_running_loop().call_later(wait, self._fire)

    def _fire(self) -> None:
        self._timer, self._timer_due = None, float("inf")
        if self.stopped:
            return
        now = self._clock()
        for key in [key for key, due in self._due.items() if due <= now]:
            del self._due[key]
            self.wake(key)
        if self._due:
            self._set_timer(min(self._due.values()))
