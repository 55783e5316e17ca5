"""Heads of answers that came before are not parsed again, as those of requests are not
(sluice.http1.head_cache).

A replica's answers to calls of one kind differ by their body and by the time they took. So heads
are compared without that time, and what was parsed of the first of them is told again, with the
time of this one: 30.6 -> 24.8 us of the gateway's processor time a call (bench.callpath --against).

Traps handled here:
- only where an answer certainly begins, and only a read that holds exactly one whole answer: then
  the parser, which sees nothing of it, stands where it stood;
- only HTTP/1.1 kept alive, with a length and a body that it measures: no HEAD, 1xx, 204, 304;
- the time is left out only where it is digits and a point, so that no byte of another meaning is
  passed over;
- what peers can make us remember is bounded, and a connection whose heads never recur is soon
  looked at no longer.
"""

import logging
from typing import Final

from sluice.http1.head_cache import HEAD_END, KNOWN_HEADS, LONGEST_KNOWN_HEAD, PATIENCE
from sluice.http1.responses import Head, ResponseReader

TIME_NAME: Final = b"x-duration-seconds"
TIME_LINE: Final = b"\r\n%b: " % TIME_NAME
# As in 0.000123; the rare call that takes ten seconds does not need to be fast here.
TIME_BYTES: Final = 8
DIGITS: Final = b"0123456789"
BODYLESS: Final = frozenset({204, 304})

log = logging.getLogger(__name__)


class KnownResponse:
    """A head that came before.

    timed: which of its headers is the time that each answer brings anew. plan: what a listener
    derives from the head and leaves for the next.
    """

    __slots__ = ("head", "prepared", "timed")

    def __init__(self, head: Head, timed: int | None) -> None:
        self.head, self.timed = head, timed
        self.prepared: object | None = None


# Heads as compared, without the time -> what was parsed of the first of them. Emptied when full.
ResponseHeads = dict[bytes, KnownResponse]
# Shared by all connections: equal bytes mean the same whoever sent them.
RESPONSE_HEADS: Final[ResponseHeads] = {}


class RecallingReader(ResponseReader):
    """The part of a connection that knows answers' heads again.

    head_cache: None parses every head. known: that of the answer which is told of now, when its
    head came before.
    """

    __slots__ = ("_heads", "_misses", "known")

    def __init__(self, head_cache: ResponseHeads | None) -> None:
        super().__init__()
        self._heads: ResponseHeads = {} if head_cache is None else head_cache
        # Out of patience from the start, a connection never looks at a cache.
        self._misses = 0 if head_cache is not None else PATIENCE + 1
        self.known: KnownResponse | None = None

    def data_received(self, data: bytes) -> None:
        # Any byte of a head counts at once: none means that an answer begins here.
        if self._head_bytes or self._head_only or self._listener is None or self._misses > PATIENCE:
            self.known = None
            super().data_received(data)
            return
        end = data.find(HEAD_END) + 4
        at = data.find(TIME_LINE, 0, end)
        time = b""
        if at < 0:
            key = data[:end]
        else:
            at += len(TIME_LINE)
            behind = at + TIME_BYTES
            time = data[at:behind]
            if time.translate(None, DIGITS) == b"." and data[behind : behind + 2] == b"\r\n":
                key = data[:at] + data[behind:end]
            else:
                key = b""
        known = self._heads.get(key)
        if known is not None and len(data) - end == known.head.length:
            self._replay(known, time, data[end:])
        else:
            self._meet(key, data, end, at)

    def _replay(self, known: KnownResponse, time: bytes, body: bytes) -> None:
        """What the parser's callbacks would do, and the end of the answer."""
        self._misses = 0
        self.known = known
        self._keep_alive = True
        head = known.head
        headers = head.headers
        if known.timed is not None:
            headers = headers.copy()
            headers[known.timed] = (TIME_NAME, time)
        try:
            self._listener.response_started(head.status, head.reason, headers, head.length)  # type: ignore[union-attr] # asked by data_received
            self._answered = True
            if body and self._listener is not None:
                self._listener.response_body(body)
        except Exception as error:
            log.exception("reading an answer failed")
            self._fail(error)
            return
        self._complete()

    def _meet(self, key: bytes, data: bytes, end: int, at: int) -> None:
        """Parse what begins with an unknown head, and remember it if it was one whole answer.

        at: where the time stands that was left out of `key`, or -1.
        """
        self._misses += 1
        self.known = None
        head = self._parsed(data)
        if head is None or not _is_plain(head, data) or len(data) - end != head.length:
            return
        if not key or len(key) > LONGEST_KNOWN_HEAD:
            return
        # The header on the time's own line: others may have its name, written otherwise.
        timed = None if at < 0 else data.count(b"\r\n", 0, at) - 1
        if len(self._heads) >= KNOWN_HEADS:
            self._heads.clear()
        self._heads[key] = KnownResponse(head, timed)

    def _parsed(self, data: bytes) -> Head | None:
        """The head that ended in `data`."""
        self._head = None
        self._wanted = True
        super().data_received(data)
        self._wanted = False
        return self._head


def _is_plain(head: Head, data: bytes) -> bool:
    """Whether the head is the one that `data` begins with, and its length that of its body."""
    first = b"HTTP/1.1 %d " % head.status
    return head.keep_alive and head.status not in BODYLESS and data.startswith(first)
