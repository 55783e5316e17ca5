"""What waits behind the exchange in flight of a connection, as bytes where possible.

Traps handled here:
- heads are parsed 8 KiB at a time, so that one read of tiny requests makes few exchanges;
- a body is parsed no further than its end, so that what follows it stays bytes;
- chunk extensions and trailers are bounded by what the body itself justifies.
"""

from collections import deque
from typing import Final

from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Exchange

HEAD_SLICE: Final = 8 * 1024
BODY_SLICE: Final = 64 * 1024
# With so many bytes held, reading is paused.
HELD_BYTES: Final = 64 * 1024
# Go's rule for chunked bodies: 16 bytes of framing a chunk and twice the data are fair.
CHUNK_FRAMING: Final = 16
CHUNK_EXCESS: Final = 64 * 1024


class Backlog:
    """Requests, bytes and the refusal that wait on one connection.

    queue: exchanges whose heads were parsed, maybe with parts of their bodies. refusal: why nothing
    behind them can be parsed. held: bytes not parsed yet. excess: by how many bytes the framing of
    the chunked body that is parsed now exceeds what is fair.
    """

    __slots__ = ("excess", "held", "queue", "refusal")

    def __init__(self) -> None:
        self.queue: deque[Exchange] = deque()
        self.refusal: RefusedError | None = None
        self.held = b""
        self.excess = 0

    def add(self, exchange: Exchange) -> None:
        """Let an exchange wait for its turn; its body is kept with it."""
        exchange.buffered = []
        self.queue.append(exchange)

    def next_of_head(self, room: int) -> bytes:
        """Bytes to parse as a head, no longer held; at most `room`."""
        size = min(HEAD_SLICE, room)
        data, self.held = self.held[:size], self.held[size:]
        return data

    def next_of_body(self, exchange: Exchange) -> bytes:
        """Bytes to parse as a part of the body of `exchange`, no longer held."""
        held = self.held
        size = BODY_SLICE if exchange.chunked else min(exchange.body_left, BODY_SLICE)
        if len(held) <= size:
            self.held = b""
        else:
            self.held = held[size:]
            held = held[:size]
        if exchange.chunked:
            self.excess += len(held)
        return held

    def refuse(self, error: RefusedError) -> None:
        """Refuse all that is not parsed yet, and the request that is parsed in part."""
        if self.queue and self.queue[-1].request_open:
            self.queue.pop()
        self.refusal = error

    def clear(self) -> None:
        """Forget the requests and bytes that wait."""
        self.held = b""
        self.queue.clear()
