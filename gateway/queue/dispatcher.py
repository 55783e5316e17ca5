"""Whose turn it is: entries of many keys, each key with its own bound, none waiting for another.

A key is a function, or a host that is called back. Per key a few leased entries are at hand; the
keys that have some take turns. No I/O: `ask` and `begin` do it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from gateway.queue.store import Backlog, Lease, Leased

T = TypeVar("T")

# Entries at hand of one key, so that a lease is one change among hundreds of calls.
MOST_AT_HAND: Final = 128
# A due time may be a little off between clocks: no spinning on it.
LEAST_WAIT: Final = 0.005


@dataclass(slots=True)
class _Lane(Generic[T]):
    """One key. more: whether the store may hold entries that are due. asked: a lease is out."""

    key: str
    ready: deque[T] = field(default_factory=deque)
    running: int = 0
    more: bool = False
    asked: bool = False


class Dispatcher(Generic[T]):
    """Leases entries by key and begins them in turn.

    total: most that run at once. limit: most of a key at once, looked up each time. begin: starts
    an entry; `ended` must follow. ask: leases, and later calls back with what it got.
    """

    def __init__(
        self,
        total: int,
        limit: Callable[[str], int],
        begin: Callable[[T], None],
        ask: Callable[[Lease, Callable[[Leased[T]], None]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._total, self._limit, self._begin, self._ask = total, limit, begin, ask
        self._clock = clock
        self._lanes: dict[str, _Lane[T]] = {}
        # Lanes with entries at hand, next first; lanes whose store may have more.
        self._turns: deque[_Lane[T]] = deque()
        self._needs_refill: dict[str, _Lane[T]] = {}
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._pumping = False
        self.running = 0
        self.stopped = True

    def start(self, backlog: Iterable[Backlog]) -> None:
        """Begin with what the store holds."""
        self.stopped = False
        self.adopt(backlog)

    def adopt(self, backlog: Iterable[Backlog]) -> None:
        """Take note of what the store holds, however it came there."""
        for each in backlog:
            self.wake_at(each.key, each.due)

    def stop(self) -> list[T]:
        """Begin nothing more; the entries at hand that were not begun."""
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        left = [entry for lane in self._lanes.values() for entry in lane.ready]
        for lane in self._lanes.values():
            lane.ready.clear()
        self._turns.clear()
        return left

    def wake(self, key: str) -> None:
        """The store has an entry of `key` that is due."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
        elif lane.more:
            return
        lane.more = True
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
        """An entry of `key` that was begun is over."""
        self.running -= 1
        lane = self._lanes[key]
        lane.running -= 1
        self._forget_idle(lane)
        self.pump_soon()

    def take(self, key: str, wanted: Callable[[T], bool]) -> T | None:
        """The entry at hand that is `wanted`, which then is not begun; None without one."""
        lane = self._lanes.get(key)
        found = next((entry for entry in lane.ready if wanted(entry)), None) if lane else None
        if lane is not None and found is not None:
            lane.ready.remove(found)
            if not lane.ready:
                self._turns.remove(lane)
        return found

    def give_back(self, key: str, entry: T) -> None:
        """An entry that was taken is to be begun after all, before others of `key`."""
        lane = self._lanes.setdefault(key, _Lane(key))
        if not lane.ready:
            self._turns.append(lane)
        lane.ready.appendleft(entry)
        self.pump_soon()

    def pump_soon(self) -> None:
        """Begin what may be begun, at the end of this turn of the loop."""
        if not self._pumping and not self.stopped:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Begin what may be begun and ask for more of what runs short."""
        self._pumping = False
        if self.stopped:
            return
        turns, passed = self._turns, 0
        while passed < len(turns) and self.running < self._total:
            lane = turns.popleft()
            if lane.running >= self._limit(lane.key):
                turns.append(lane)
                passed += 1
                continue
            passed = 0
            entry = lane.ready.popleft()
            if lane.ready:
                turns.append(lane)
            lane.running += 1
            self.running += 1
            self._begin(entry)
        for lane in list(self._needs_refill.values()):
            self._feed(lane)

    def _feed(self, lane: _Lane[T]) -> None:
        if lane.asked:
            return
        wanted = min(2 * self._limit(lane.key), MOST_AT_HAND)
        if wanted and len(lane.ready) <= wanted // 2:
            lane.asked = True
            order = Lease(lane.key, wanted - len(lane.ready), self._clock())
            self._ask(order, lambda leased: self._refilled(lane, leased))

    def _refilled(self, lane: _Lane[T], leased: Leased[T]) -> None:
        lane.asked = False
        if leased.entries:
            if not lane.ready:
                self._turns.append(lane)
            lane.ready.extend(leased.entries)
        if leased.due is not None:
            lane.more = False
            del self._needs_refill[lane.key]
            if leased.due != float("inf"):
                self.wake_at(lane.key, max(leased.due, self._clock() + LEAST_WAIT))
            self._forget_idle(lane)
        self.pump_soon()

    def _forget_idle(self, lane: _Lane[T]) -> None:
        if not (lane.ready or lane.running or lane.more):
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
