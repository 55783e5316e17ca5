"""From polled records to their effect: calls, retries, results, dead letters.

All of it runs on the loop. A record's offset may be committed only when `Entry.finish` was
called for it, and that is after the function's 2xx and the published result, or after the dead
letter is at the broker.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kafka import TopicPartition

from sluice.backoff import delay
from triggers.kafka.dead_letters import dead_letter, result_message, shortened
from triggers.kafka.lanes import Entry, Lane, Lanes, OffsetTracker
from triggers.kafka.metrics import KafkaMetrics
from triggers.kafka.publisher import Message, RefusedMessageError
from triggers.kafka.records import Done, Failed, Outcome, Record, Unavailable
from triggers.kafka.topics import Subscription

# Initial retry delay when no function took a call; doubles: a gateway restarts in seconds.
UNAVAILABLE_FIRST_SECONDS: Final = 0.1
UNAVAILABLE_LONGEST_SECONDS: Final = 5.0
log = logging.getLogger(__name__)


class Caller(Protocol):
    """Calls records."""

    async def call(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """One outcome a record; a single Unavailable when none of them was taken."""


class Publisher(Protocol):
    """Publishes messages."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Raises RefusedMessageError."""


class Delivery:
    """Delivers the records that one consumer polls, while `run` is running."""

    def __init__(
        self,
        subscription: Subscription,
        caller: Caller,
        publisher: Publisher,
        metrics: KafkaMetrics,
    ) -> None:
        self._subscription, self._options = subscription, subscription.options
        self._caller, self._publisher = caller, publisher
        self._metrics, self._name = metrics, subscription.target
        self._calls = 0
        # Read when scraped: a gauge of its own would cost two locks a record.
        metrics.in_flight.labels(self._name).set_function(lambda: self._calls)
        self._succeeded = {
            topic: metrics.records.labels(self._name, topic, "succeeded")
            for topic in subscription.topics
        }
        self._lanes = Lanes(self._options)
        self._ready: deque[Lane] = deque()
        self._workers = 0
        self._group: asyncio.TaskGroup | None = None
        self._settled = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Deliver until cancelled; calls under way are cut off then."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._start_workers()
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def accept(self, polled: Sequence[tuple[OffsetTracker, Sequence[Record]]]) -> None:
        """Take the records of one poll."""
        for tracker, records in polled:
            for lane in self._lanes.add(tracker, records):
                self._offer(lane)
        self._start_workers()

    def release(
        self, partitions: set[TopicPartition], seconds: float, done: Callable[[], None]
    ) -> None:
        """Release partitions: start no call of theirs; `done` once those under way have ended.

        seconds: the most that waits for; a call that is still out then may be made twice.
        """
        lanes = self._lanes.of(partitions)
        for lane in lanes:
            lane.close()
            self._lanes.forget(lane)
        if self._group is None or not any(lane.busy for lane in lanes):
            done()
            return
        self._group.create_task(self._drain(lanes, seconds, done))

    async def _drain(self, lanes: list[Lane], seconds: float, done: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(seconds):
                while any(lane.busy for lane in lanes):
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            left = sum(lane.busy for lane in lanes)
            log.warning("event=drain-timeout function=%s calls=%d", self._name, left)
        finally:
            done()

    # Which lane is next.

    def _offer(self, lane: Lane) -> None:
        """Make a lane ready, unless it is ready, waits for a retry, or has too few records."""
        if lane.busy or lane.closed:
            return
        if len(lane.pending) >= self._options.batch_size or not self._options.batch_linger:
            if lane.timer is None:
                self._make_ready(lane)
            elif not lane.retries:  # it lingered, and is full now
                lane.timer.cancel()
                self._make_ready(lane)
        elif lane.timer is None:
            self._park(lane, self._options.batch_linger)

    def _make_ready(self, lane: Lane) -> None:
        lane.busy, lane.timer = True, None
        self._ready.append(lane)

    def _park(self, lane: Lane, seconds: float) -> None:
        lane.timer = self._loop.call_later(seconds, self._unpark, lane)

    def _unpark(self, lane: Lane) -> None:
        if not lane.closed:
            self._make_ready(lane)
            self._start_workers()

    def _start_workers(self) -> None:
        if self._group is None:
            return
        while self._workers < self._options.max_in_flight and self._workers < len(self._ready):
            self._workers += 1
            self._group.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._ready:
                lane = self._ready.popleft()
                if not lane.closed:
                    await self._serve(lane)
                lane.busy = False
                self._settled.set()
                self._go_on(lane)
        finally:
            self._workers -= 1

    def _go_on(self, lane: Lane) -> None:
        if lane.closed:
            return
        if not len(lane):
            self._lanes.forget(lane)
        elif lane.waits:
            self._park(
                lane, delay(lane.waits, UNAVAILABLE_FIRST_SECONDS, UNAVAILABLE_LONGEST_SECONDS)
            )
        elif lane.retries:
            self._park(lane, self._retry_wait(lane.retries[0]))
        else:
            self._offer(lane)

    # What happens to its records.

    async def _serve(self, lane: Lane) -> None:
        entries = lane.take(self._options.batch_size)
        self._calls += 1
        try:
            outcomes = await self._caller.call([entry.record for entry in entries])
        finally:
            self._calls -= 1
        if isinstance(outcomes[0], Unavailable):
            self._not_taken(lane, entries, outcomes[0])
            return
        lane.waits = 0
        failed = await self._settle(entries, outcomes)
        lane.put_back(failed)

    def _not_taken(self, lane: Lane, entries: list[Entry], outcome: Unavailable) -> None:
        if not lane.waits:
            log.info("event=call-waits function=%s reason=%s", self._name, outcome.reason)
        lane.waits += 1
        self._metrics.unavailable.labels(self._name).inc()
        lane.put_back(entries)

    async def _settle(self, entries: list[Entry], outcomes: Sequence[Outcome]) -> list[Entry]:
        """Finish the records that are done; returns those to be called again."""
        done: list[tuple[Entry, Done]] = []
        failed: list[tuple[Entry, Failed]] = []
        rejected: list[tuple[Entry, Failed]] = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Done):
                done.append((entry, outcome))
            elif isinstance(outcome, Failed):
                (failed if self._may_retry(entry, outcome) else rejected).append((entry, outcome))
        if self._options.result_topic and done:
            done, unpublishable = await self._publish_results(done)
            rejected += unpublishable
        for entry, _ in done:
            entry.finish()
        if done:
            self._succeeded[done[0][0].record.topic].inc(len(done))
        for entry, outcome in rejected:
            await self._dead_letter(entry, outcome)
        if failed:
            self._metrics.retries.labels(self._name).inc()
        return [entry for entry, _ in failed]

    def _may_retry(self, entry: Entry, outcome: Failed) -> bool:
        if outcome.together:
            entry.alone = True
            return True
        entry.failures += 1
        return not outcome.permanent and entry.failures <= self._options.retries

    async def _publish_results(
        self, done: list[tuple[Entry, Done]]
    ) -> tuple[list[tuple[Entry, Done]], list[tuple[Entry, Failed]]]:
        topic = self._options.result_topic
        messages = [result_message(topic, entry.record, result) for entry, result in done]
        try:
            await self._publisher.publish(messages)
        except RefusedMessageError:
            pass  # one of them, to be found below
        else:
            return done, []
        published: list[tuple[Entry, Done]] = []
        refused: list[tuple[Entry, Failed]] = []
        for (entry, result), message in zip(done, messages, strict=True):
            try:
                await self._publisher.publish([message])
                published.append((entry, result))
            except RefusedMessageError as error:
                refused.append((entry, Failed(f"result not published: {error}")))
        return published, refused

    async def _dead_letter(self, entry: Entry, outcome: Failed) -> None:
        record, topic = entry.record, self._subscription.dead_letter_topic
        kind = "dead_lettered" if topic else "dropped"
        log.warning(
            "event=%s function=%s topic=%s partition=%d offset=%d tries=%d reason=%s",
            kind.replace("_", "-"),
            self._name,
            record.topic,
            record.partition,
            record.offset,
            entry.failures,
            outcome.reason,
        )
        if topic:
            message = dead_letter(topic, self._subscription, record, outcome, entry.failures)
            try:
                await self._publisher.publish([message])
            except RefusedMessageError:
                await self._publisher.publish([shortened(message)])
        entry.finish()
        self._metrics.records.labels(self._name, record.topic, kind).inc()

    def _retry_wait(self, entry: Entry) -> float:
        options = self._options
        return delay(entry.failures, options.retry_min_wait, options.retry_max_wait)
