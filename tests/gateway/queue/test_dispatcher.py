"""Turns and limits, with a store of lists and a clock moved by hand."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.queue.dispatcher import Dispatcher
from gateway.queue.store import NEVER, Backlog, Lease, Leased

Entry = tuple[str, int]


class Hand:
    """What a dispatcher is given: entries by key, and a record of those begun."""

    def __init__(self, total: int = 100, limit: int = 2) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.begun: list[Entry] = []
        self.began = asyncio.Event()
        self.leases: list[Lease] = []
        # Leases that get nothing, as the store failed, before others get what there is.
        self.failures = 0
        self.now = 100.0
        self.limits: dict[str, int] = {}
        self.dispatcher: Dispatcher[Entry] = Dispatcher(
            total,
            lambda key: self.limits.get(key, limit),
            self.begin,
            self.lease,
            lambda: self.now,
        )

    def begin(self, entry: Entry) -> None:
        self.begun.append(entry)
        self.began.set()

    def lease(self, lease: Lease, taken: Callable[[Leased[Entry]], None]) -> None:
        self.leases.append(lease)
        loop = asyncio.get_running_loop()
        if self.failures:
            self.failures -= 1
            loop.call_soon(taken, Leased([]))
            return
        there = self.entries.get(lease.key, [])
        found, self.entries[lease.key] = there[: lease.count], there[lease.count :]
        due = None if len(found) == lease.count else NEVER
        loop.call_soon(taken, Leased(found, due))

    def put(self, key: str, count: int) -> None:
        self.entries.setdefault(key, []).extend((key, number) for number in range(count))
        self.dispatcher.wake(key)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def end(self, count: int) -> None:
        """End the `count` entries that were begun first of those still running."""
        for key, _ in self.begun[-self.dispatcher.running :][:count]:
            self.dispatcher.ended(key)
        await self.settle()


@pytest.fixture
async def hand() -> Hand:
    made = Hand()
    made.dispatcher.start([])
    return made


async def test_key_runs_no_more_than_its_limit(hand: Hand) -> None:
    hand.put("a", 5)
    await hand.settle()
    assert hand.begun == [("a", 0), ("a", 1)]
    hand.dispatcher.ended("a")
    await hand.settle()
    assert hand.begun[2:] == [("a", 2)]
    assert hand.dispatcher.running == 2


async def test_backlog_of_one_key_delays_no_other() -> None:
    hand = Hand(total=4, limit=100)
    hand.dispatcher.start([])
    hand.put("big", 1000)
    await hand.settle()
    assert hand.begun == [("big", number) for number in range(4)]
    hand.put("small", 2)
    await hand.settle()
    for _ in range(4):
        hand.dispatcher.ended(hand.begun[0][0])
        await hand.settle()
    assert ("small", 0) in hand.begun[4:6]
    assert ("small", 1) in hand.begun[4:8]


async def test_blocked_key_lets_others_pass(hand: Hand) -> None:
    hand.limits["a"] = 0
    hand.put("a", 5)
    hand.put("b", 1)
    await hand.settle()
    assert hand.begun == [("b", 0)]


async def test_everything_is_begun_once(hand: Hand) -> None:
    for key in "abc":
        hand.put(key, 50)
    await hand.settle()
    while hand.dispatcher.running:
        await hand.end(1)
    assert sorted(hand.begun) == [(key, number) for key in "abc" for number in range(50)]


async def test_few_leases_serve_many_entries() -> None:
    hand = Hand(limit=64)
    hand.dispatcher.start([])
    hand.put("a", 1000)
    await hand.settle()
    while hand.dispatcher.running:
        await hand.end(64)
    assert len(hand.begun) == 1000
    assert len(hand.leases) < 40


async def test_key_is_woken_when_it_is_due(hand: Hand) -> None:
    hand.entries["a"] = [("a", 0)]
    hand.dispatcher.adopt([Backlog("a", 1, 1, hand.now + 0.02)])
    await hand.settle()
    assert hand.begun == []
    hand.now += 0.02
    await asyncio.wait_for(hand.began.wait(), 60)
    assert hand.begun == [("a", 0)]


async def test_failed_lease_is_asked_for_again(hand: Hand) -> None:
    hand.failures = 1
    hand.put("a", 1)
    await hand.settle()
    assert len(hand.leases) == 2
    assert hand.begun == [("a", 0)]


async def test_stopped_one_begins_nothing_and_gives_back_what_it_has(hand: Hand) -> None:
    hand.put("a", 4)
    await hand.settle()
    assert hand.dispatcher.stop() == [("a", 2), ("a", 3)]
    hand.dispatcher.ended("a")
    hand.put("b", 1)
    await hand.settle()
    assert len(hand.begun) == 2


async def test_entry_at_hand_can_be_taken_back(hand: Hand) -> None:
    hand.put("a", 3)
    await hand.settle()
    assert hand.dispatcher.take("a", lambda entry: entry[1] == 2) == ("a", 2)
    assert hand.dispatcher.take("a", lambda entry: entry[1] == 0) is None
    await hand.end(2)
    assert len(hand.begun) == 2


async def test_keys_without_entries_are_forgotten(hand: Hand) -> None:
    hand.put("a", 1)
    await hand.settle()
    hand.dispatcher.ended("a")
    await hand.settle()
    assert hand.dispatcher.keys == set()
