"""Polled records of a consumer: in which order they are called, and which offsets are done.

Within a lane one call is made at a time and in order, lanes run beside one another. A lane is a
partition, or with `order: key` the records of one key in a partition. With batches a lane holds
many keys, always the same ones together, so that a batch has something to hold.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from kafka import TopicPartition

from triggers.kafka.options import KafkaOptions
from triggers.kafka.records import Record

KEYLESS: Final = 1


class OffsetTracker:
    """One partition from its assignment to its revocation.

    position: offset to commit, the first that is not done; -1 before anything was done. Two threads
    touch it without a lock: the consumer's appends, the loop's takes off. Each field has one
    writer, and a deque's ends are safe under the interpreter's lock.
    """

    __slots__ = ("_done", "_done_bytes", "_open", "_taken_bytes", "partition", "position")

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.position = -1
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._taken_bytes = self._done_bytes = 0

    @property
    def outstanding(self) -> int:
        """Records taken whose offset is not below `position`."""
        return len(self._open)

    @property
    def outstanding_bytes(self) -> int:
        """Bytes of records taken and not done."""
        return self._taken_bytes - self._done_bytes

    @property
    def first(self) -> int | None:
        """The lowest offset that is not done, None without one."""
        try:
            return self._open[0]
        except IndexError:
            return None

    def take(self, offsets: Iterable[int], size: int) -> None:
        """Add polled records, in rising order of offsets; the consumer's thread only."""
        self._taken_bytes += size
        self._open.extend(offsets)

    def finish(self, offset: int, size: int) -> None:
        """Mark a record that had its effect or is a dead letter; the loop's thread only."""
        self._done_bytes += size
        pending = self._open
        if pending[0] != offset:
            self._done.add(offset)
            return
        done = self._done
        last = pending.popleft()
        while done and pending and pending[0] in done:
            last = pending.popleft()
            done.remove(last)
        self.position = last + 1


class Entry:
    """A record on its way. size: bytes of its value. failures: tries used up.

    alone: to be called by itself, as the batch it was in failed as a whole.
    """

    __slots__ = ("alone", "failures", "record", "size", "tracker")

    def __init__(self, record: Record, tracker: OffsetTracker) -> None:
        self.record, self.tracker = record, tracker
        self.size = len(record.value or b"")
        self.failures = 0
        self.alone = False

    def finish(self) -> None:
        """Mark the record as done: it had its effect, or is a dead letter."""
        self.tracker.finish(self.record.offset, self.size)


class Lane:
    """What waits in one lane. busy: a call is under way, or next. timer: it waits for a retry
    or for more records. closed: its partition was given up; nothing of it is called any more.
    """

    __slots__ = ("busy", "closed", "key", "partition", "pending", "retries", "timer", "waits")

    def __init__(self, key: Hashable, partition: TopicPartition) -> None:
        self.key, self.partition = key, partition
        self.pending: deque[Entry] = deque()
        self.retries: deque[Entry] = deque()
        self.busy = self.closed = False
        self.timer: asyncio.TimerHandle | None = None
        self.waits = 0  # times in a row that nothing took its records

    def __len__(self) -> int:
        return len(self.retries) + len(self.pending)

    def take(self, most: int) -> list[Entry]:
        """The next records to call together; failed ones first, before any behind them."""
        if self.retries:
            source = self.retries
            most = 1 if source[0].alone else most
        else:
            source = self.pending
        if len(source) <= most:
            taken = list(source)
            source.clear()
            return taken
        return [source.popleft() for _ in range(most)]

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Call these again, before all others."""
        self.retries.extendleft(reversed(entries))

    def close(self) -> None:
        """Forget the records without a call: another consumer gets them by the committed offset."""
        self.closed = True
        self.pending.clear()
        self.retries.clear()


class Lanes:
    """All lanes of one consumer."""

    def __init__(self, options: KafkaOptions) -> None:
        self._by_key = options.order == "key"
        self._spread = options.max_in_flight if options.batch_size > 1 else 0
        self._lanes: dict[Hashable, Lane] = {}

    def add(self, tracker: OffsetTracker, records: Sequence[Record]) -> list[Lane]:
        """Put polled records of one partition into their lanes; returns those lanes."""
        partition = tracker.partition
        if not self._by_key:
            lane = self._lane(partition, partition)
            lane.pending.extend([Entry(record, tracker) for record in records])
            return [lane]
        touched: dict[Hashable, Lane] = {}
        for record in records:
            key = self._key(partition, record)
            lane = touched[key] = self._lane(key, partition)
            lane.pending.append(Entry(record, tracker))
        return list(touched.values())

    def forget(self, lane: Lane) -> None:
        """Drop a lane in which nothing waits, so that keys seen once are not kept."""
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]

    def of(self, partitions: set[TopicPartition]) -> list[Lane]:
        """The lanes of these partitions."""
        return [lane for lane in self._lanes.values() if lane.partition in partitions]

    def _lane(self, key: Hashable, partition: TopicPartition) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, partition)
        return lane

    def _key(self, partition: TopicPartition, record: Record) -> Hashable:
        if record.key is None:
            chosen = record.offset
            return (partition, KEYLESS, chosen % self._spread if self._spread else chosen)
        if self._spread:
            return (partition, zlib.crc32(record.key) % self._spread)
        return (partition, record.key)
