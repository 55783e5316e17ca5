"""Heads of responses that came before are not parsed again, as those of requests are not
(sluice.http1.head_cache).

A replica's responses to calls of one kind differ by their body and by the time they took. So heads
are compared without that time, and what was parsed of the first of them is reported again, with the
time of this one: 30.6 -> 24.8 us of the gateway's processor time a call (bench.callpath --against).

The connection looks heads up (sluice.http1.client); this decides what is remembered.

Traps handled here:
- nothing is remembered of a read that holds anything but one whole response;
- only HTTP/1.1 kept alive, with a length and a body that it measures: no HEAD, 1xx, 204, 304;
- what peers can make us remember is bounded.
"""

from typing import Final

from sluice.http1.head_cache import KNOWN_HEADS, LONGEST_KNOWN_HEAD
from sluice.http1.response_parser import ResponseParser

TIME_NAME: Final = b"x-duration-seconds"
TIME_LINE: Final = b"\r\n%b: " % TIME_NAME
# As in 0.000123; the rare call that takes ten seconds does not need to be fast here.
TIME_BYTES: Final = 8
DIGITS: Final = b"0123456789"
BODYLESS: Final = frozenset({204, 304})


class KnownResponse:
    """A head that came before.

    timed: which of its headers is the time that each response brings anew. prepared: what a
    listener derives from the head and leaves for the next.
    """

    __slots__ = ("headers", "length", "prepared", "reason", "status", "timed")

    def __init__(self, parsed: ResponseParser, timed: int | None) -> None:
        self.status, self.reason = parsed.status, parsed.reason
        self.headers, self.length = parsed.headers, parsed.length
        self.timed = timed
        self.prepared: object | None = None


class ResponseCache:
    """Heads of responses that came before. Emptied when it is full.

    heads: head as compared, without the time, to what was parsed of the first of them; a plain dict
    for the reason given in sluice.http1.head_cache.
    """

    __slots__ = ("heads",)

    def __init__(self) -> None:
        self.heads: dict[bytes, KnownResponse] = {}

    def __len__(self) -> int:
        return len(self.heads)

    def clear(self) -> None:
        """Forget all heads."""
        self.heads.clear()

    def remember(self, key: bytes, data: bytes, end: int, at: int, parsed: ResponseParser) -> None:
        """Remember the head that `data` begins with, if `data` is one whole plain response.

        key: the head without its time. end: where the head ends. at: where the time stands that was
        left out of `key`, or -1. parsed: what the parser made of `data`.
        """
        if not key or len(key) > LONGEST_KNOWN_HEAD or len(data) - end != parsed.length:
            return
        first = b"HTTP/1.1 %d " % parsed.status
        if not parsed.keep_alive or parsed.status in BODYLESS or not data.startswith(first):
            return
        # The header on the time's own line: others may have its name, written otherwise.
        timed = None if at < 0 else data.count(b"\r\n", 0, at) - 1
        if len(self.heads) >= KNOWN_HEADS:
            self.clear()
        self.heads[key] = KnownResponse(parsed, timed)


# Shared by all connections: equal bytes mean the same whoever sent them.
RESPONSE_HEADS: Final = ResponseCache()
