"""One function's consumer group member: a thread that polls, pauses, resumes and commits.

Three threads meet here. The consumer's own drives kafka-python; kafka-python's IO thread calls
the rebalance listener, where blocking would stop the heartbeats; the loop delivers. Records go to
the loop as one hand-off a poll. What is done comes back as the trackers' positions, read without
a lock.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.future import Future

from sluice.backoff import Backoff
from triggers.kafka.clients import opened
from triggers.kafka.lanes import OffsetTracker
from triggers.kafka.rebalance import RebalanceListener
from triggers.kafka.records import Record
from triggers.kafka.settings import KafkaSettings
from triggers.kafka.topics import Subscription

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
BUSY_POLL_MS: Final = 20
IDLE_POLL_MS: Final = 500
POLL_RECORDS: Final = 1000
CLOSE_MS: Final = 5_000
HEARTBEAT_MS: Final = 3_000
LAG_MS: Final = 1_000
log = logging.getLogger(__name__)


class Delivery(Protocol):
    """Takes the records, on the loop."""

    def accept(self, polled: Sequence[tuple[OffsetTracker, Sequence[Record]]]) -> None:
        """Take the records of one poll."""

    def release(
        self, partitions: set[TopicPartition], seconds: float, done: Callable[[], None]
    ) -> None:
        """Release partitions; `done` when their calls have ended, after `seconds` at most."""


class Consumer(threading.Thread):
    """A member of the subscription's group until `stop`. on_error: called from the thread.

    lag: records behind the end by topic, of the partitions that this member has; empty when none.
    """

    def __init__(
        self,
        subscription: Subscription,
        settings: KafkaSettings,
        delivery: Delivery,
        on_error: Callable[[], None],
    ) -> None:
        super().__init__(name=f"kafka-{subscription.target}", daemon=True)
        self.subscription = subscription
        self.lag: Mapping[str, int] = {}
        self._settings, self._delivery, self._on_error = settings, delivery, on_error
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._commit: Future | None = None
        self._next_commit = self._next_lag = 0.0

    def stop(self) -> None:
        """Ask the thread to drain, commit, leave the group and end; `join` waits for it."""
        self._stopping.set()

    def run(self) -> None:
        """Consume until stopped; after a failure of the broker, connect again."""
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._consume()
                continue
            except KafkaError as error:
                failure: Exception = error
            except Exception as error:
                log.exception("event=consumer-broken group=%s", self.subscription.group)
                failure = error
            if time.monotonic() - began > LONGEST_DELAY:
                backoff.reset()
            delay = backoff.next()
            self._failed(failure, delay)
            self._stopping.wait(delay)

    def _failed(self, error: Exception, delay: float) -> None:
        self._on_error()
        group = self.subscription.group
        log.warning("event=consumer-failed group=%s retry_in=%.1fs error=%r", group, delay, error)

    def _consume(self) -> None:
        consumer = opened(KafkaConsumer, **self._settings.client(), **self._config())
        try:
            # The option of that name does not reach this far in kafka-python 3.0.12; without it,
            # subscribing creates the topic, with the broker's default number of partitions.
            consumer._cluster.config["allow_auto_create_topics"] = False  # noqa: SLF001 - see above
            listener = RebalanceListener(self, consumer)
            consumer.subscribe(topics=list(self.subscription.topics), listener=listener)
            log.info("event=consuming group=%s", self.subscription.group)
            while not self._stopping.is_set():
                self._turn(consumer)
        finally:
            # Leaves the group: the listener gets the revocation, drains and commits.
            consumer.close(timeout_ms=CLOSE_MS)
            self._give_up(list(self._trackers))
            self.lag = {}

    def _config(self) -> dict[str, Any]:
        session = round(self._settings.session_timeout * 1000)
        return {
            "group_id": self.subscription.group,
            "enable_auto_commit": False,
            # Revokes only the partitions that move. The eager protocol revokes all of them, and
            # kafka-python keeps its read position of those that come back: records dropped at
            # the revocation would be skipped, and committed over.
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
            "auto_offset_reset": self.subscription.options.start_offset,
            "session_timeout_ms": session,
            # Members notice a rebalance by it: a long session must not make rebalances slow.
            "heartbeat_interval_ms": min(max(1, session // 3), HEARTBEAT_MS),
            "max_poll_records": POLL_RECORDS,
            "metadata_max_age_ms": round(self._settings.metadata_interval * 1000),
            "allow_auto_create_topics": False,
            "isolation_level": "read_committed",
            "bootstrap_timeout_ms": 10_000,
            "metrics_enabled": False,
        }

    def _turn(self, consumer: KafkaConsumer) -> None:
        _unpark(consumer)
        busy = any(tracker.outstanding for tracker in list(self._trackers.values()))
        polled = consumer.poll(timeout_ms=BUSY_POLL_MS if busy else IDLE_POLL_MS)
        if polled:
            self._hand_over(polled)
        now = time.monotonic()
        self._hold_back(consumer)
        if now >= self._next_commit:
            self._commit_done(consumer, now)
        if now >= self._next_lag:
            self._next_lag = now + self._settings.signal_interval
            self.lag = measure_lag(consumer, dict(self._trackers), self._paused)

    def _hand_over(self, polled: Mapping[TopicPartition, Sequence[Record]]) -> None:
        taken: list[tuple[OffsetTracker, Sequence[Record]]] = []
        for partition, records in polled.items():
            tracker = self._trackers.get(partition)
            if tracker is None:
                tracker = self._trackers[partition] = OffsetTracker(partition)
            size = sum(len(record.value) for record in records if record.value)
            tracker.take([record.offset for record in records], size)
            taken.append((tracker, records))
        self._loop.call_soon_threadsafe(self._delivery.accept, taken)

    def _hold_back(self, consumer: KafkaConsumer) -> None:
        """Pause partitions whose calls are behind, resume those that have caught up."""
        records, size = self._settings.buffer_records, self._settings.buffer_bytes
        for partition, tracker in list(self._trackers.items()):
            left, bytes_left = tracker.outstanding, tracker.outstanding_bytes
            if partition in self._paused:
                if left <= records // 2 and bytes_left <= size // 2:
                    self._paused.discard(partition)
                    consumer.resume(partition)
            elif left >= records or bytes_left >= size:
                self._paused.add(partition)
                consumer.pause(partition)

    # Offsets.

    def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Any]:
        """The offsets of these partitions that may be committed and are not yet."""
        found: dict[TopicPartition, Any] = {}
        for partition in partitions:
            tracker = self._trackers.get(partition)
            if tracker is not None and tracker.position > self._committed.get(partition, -1):
                found[partition] = OffsetAndMetadata(tracker.position, "", -1)
        return found

    def _commit_done(self, consumer: KafkaConsumer, now: float) -> None:
        if self._commit is not None and not self._commit.is_done:
            return
        self._commit = None
        offsets = self.positions(list(self._trackers))
        if offsets:
            self._next_commit = now + self._settings.commit_interval
            self._commit = consumer.commit_async(offsets, self.committed)

    def committed(self, offsets: Mapping[TopicPartition, Any], response: object) -> None:
        """The result of a commit; after a failed one the next commit covers its offsets."""
        if isinstance(response, Exception):
            log.info("event=commit-failed group=%s error=%r", self.subscription.group, response)
            return
        for partition, offset in offsets.items():
            if partition in self._trackers:
                self._committed[partition] = offset.offset

    # Release of partitions, on kafka-python's IO thread.

    def release(self, partitions: Sequence[TopicPartition], done: Callable[[], None]) -> None:
        """Start no more calls of these partitions; `done` is called on the loop."""
        seconds = self._settings.drain_timeout
        try:
            self._loop.call_soon_threadsafe(self._delivery.release, set(partitions), seconds, done)
        except RuntimeError:  # the loop is closed: nothing is under way any more
            done()

    def forget(self, partitions: Sequence[TopicPartition]) -> None:
        """Forget partitions that another consumer has, and their calls that end later."""
        for partition in partitions:
            self._trackers.pop(partition, None)
            self._committed.pop(partition, None)
            self._paused.discard(partition)

    def _give_up(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self.release(partitions, lambda: None)
            self.forget(partitions)


def measure_lag(
    consumer: KafkaConsumer,
    trackers: Mapping[TopicPartition, OffsetTracker],
    paused: Collection[TopicPartition],
) -> Mapping[str, int]:
    """Records that are not done, by topic, of the partitions the consumer has.

    For the consumer's own thread: it may ask the broker.
    """
    partitions = consumer.assignment()
    lag = dict.fromkeys((partition.topic for partition in partitions), 0)
    # A paused partition is not fetched, so its known end is stale.
    ends = _ends(consumer, [partition for partition in partitions if partition in paused])
    for partition in partitions:
        end = ends.get(partition) or consumer.highwater(partition)
        if end is None:
            continue
        tracker = trackers.get(partition)
        if tracker is not None and tracker.outstanding:
            at = tracker.position if tracker.position >= 0 else tracker.first
        else:
            at = consumer.position(partition, timeout_ms=LAG_MS)
        lag[partition.topic] += max(0, end - (end if at is None else at))
    return lag


def _ends(
    consumer: KafkaConsumer, partitions: list[TopicPartition]
) -> Mapping[TopicPartition, int]:
    if not partitions:
        return {}
    try:
        ends: Mapping[TopicPartition, int] = consumer.end_offsets(partitions, timeout_ms=LAG_MS)
    except KafkaError:
        return {}  # the broker is unavailable: use the last known end
    return ends


def _unpark(consumer: KafkaConsumer) -> None:
    """Make records that were decoded before a pause available after the resume.

    kafka-python 3.0.12 keeps them aside and takes them back only when its slot for the partition
    in line is None, which it never is again once used: a resumed partition would stand still.
    """
    fetcher = consumer._fetcher  # noqa: SLF001 - no public way; test_pause_and_resume holds it
    if not fetcher._next_partition_records:  # noqa: SLF001 - likewise
        fetcher._next_partition_records = None  # noqa: SLF001 - likewise
