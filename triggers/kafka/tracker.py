"""Which records of one partition are done, and up to where its offset may be committed.

Two threads touch a tracker without a lock: the consumer's appends, the loop's takes off. Each
field has one writer, and a deque's ends are safe under the interpreter's lock.
"""

from collections import deque
from collections.abc import Iterable


class OffsetTracker:
    """One partition from its assignment to its revocation.

    topic, partition: which. position: offset to commit, the first that is not done; -1 before
    anything was done.
    """

    __slots__ = ("_done", "_done_bytes", "_open", "_taken_bytes", "partition", "position", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.position = -1
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._taken_bytes = self._done_bytes = 0

    @property
    def outstanding(self) -> int:
        """Records taken and not yet behind `position`."""
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
        """Records were polled, in rising order of offsets; the consumer's thread only."""
        self._taken_bytes += size
        self._open.extend(offsets)

    def finish(self, offset: int, size: int) -> None:
        """A record had its effect or is a dead letter; the loop's thread only."""
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
