"""One exchange at a time: what comes behind the one in flight waits, as bytes where possible.

Traps handled here:
- what is read while a call is in flight is held as bytes, up to 64 KiB, and only then is reading
  paused, so that a client that left is noticed;
- a large body is read and delivered in small pieces (sluice.http1.bounded_reads): many at once
  hold little;
- heads are parsed 8 KiB at a time, so that one read of tiny requests makes no heap of exchanges;
- nothing starts while the client does not read its answers;
- chunk extensions and trailers are bounded by what the body itself justifies;
- an error of the application ends its own call only.
"""

import asyncio
from abc import abstractmethod
from collections import deque
from typing import Final

from sluice.http1.bounded_reads import BoundedReads
from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Application, Exchange
from sluice.http1.limits import Limits
from sluice.http1.reader import RequestReader
from sluice.http1.receiver import NullReceiver, Receiver

HEAD_SLICE: Final = 8 * 1024
BODY_SLICE: Final = 64 * 1024
HELD_BYTES: Final = 64 * 1024
# Go's rule for chunked bodies: 16 bytes of framing a chunk and twice the data are fair.
CHUNK_FRAMING: Final = 16
CHUNK_EXCESS: Final = 64 * 1024
NULL_RECEIVER: Final = NullReceiver()


class TurnTaker(RequestReader):
    """The half of a connection that hands requests to the application in their order."""

    __slots__ = (
        "_advancing",
        "_application",
        "_body_paused",
        "_bounded",
        "_closing",
        "_current",
        "_draining",
        "_excess",
        "_parsing",
        "_prepared",
        "_queue",
        "_reading_paused",
        "_receiver",
        "_refusal",
        "_seen_before",
        "_transport",
        "writing_is_paused",
    )

    _transport: asyncio.Transport

    def __init__(self, application: Application, limits: Limits) -> None:
        super().__init__(limits)
        self._application = application
        # Whose turn it is, whose body is read, and what waits behind. Receivers hold exchanges, and
        # these us: all is let go when done, so that no cycle is left for the collector.
        self._current: Exchange | None = None
        self._receiver: Receiver = NULL_RECEIVER
        self._parsing: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._refusal: RefusedError | None = None
        self._excess = 0
        # Whether the next head to be parsed came before, and the exchange it made.
        self._seen_before = False
        self._prepared: Exchange | None = None
        self._advancing = self._body_paused = self._reading_paused = self.writing_is_paused = False
        self._bounded = self._closing = self._draining = False

    @abstractmethod
    def _send_refusal(self, error: RefusedError) -> None:
        """Send what is wrong with the request that would be next, and close."""

    @abstractmethod
    def _application_failed(self, exchange: Exchange, error: Exception) -> None:
        """Log what the application raised and end the exchange."""

    def _take(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return
        self._held = self._held + data if self._held else data
        self._advance()
        if len(self._held) >= HELD_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _advance(self) -> None:
        """Start what waits and parse what is held, as far as the order of answers allows.

        Answers call this from within the parser too, which must not be entered twice: then either
        this runs already, or nothing is held, as `data_received` parses at once only in that case.
        """
        if self._advancing or self._closing:
            return
        self._advancing = True
        while self._step():
            pass
        self._advancing = False
        self._careful = bool(self._held or self._queue or self._refusal) or (
            self._in_head or self._closing or self._draining or self.writing_is_paused
        )
        if self._reading_paused and len(self._held) < HELD_BYTES and not self._closing:
            self._reading_paused = False
            self._transport.resume_reading()

    def _step(self) -> bool:
        """Do one thing that can be done now; False when there is none."""
        current = self._current
        if self._closing or (current is None and self.writing_is_paused):
            return False
        if current is None and self._queue:
            self._begin_queued(self._queue.popleft())
        elif current is None and self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._held and (current is None or (current.request_open and not self._body_paused)):
            self._parse_held(current)
        else:
            return False
        return True

    def _parse_held(self, current: Exchange | None) -> None:
        if current is None:
            size = min(HEAD_SLICE, self._limits.head_bytes - self._head_bytes)
        elif current.chunked:
            size = BODY_SLICE
            self._excess += min(size, len(self._held))
        else:
            size = min(current.body_left, BODY_SLICE)
        data, self._held = self._held[:size], self._held[size:]
        self._feed(data)
        if self._excess > CHUNK_EXCESS and current is not None and current.request_open:
            self._refuse(RefusedError(400, "chunked body: more framing than data"))
        if self._excess < 0 or self._current is not current:
            self._excess = 0

    def _head_read(self, exchange: Exchange) -> None:
        exchange.connection = self  # type: ignore[assignment] # a ServerProtocol is a Connection
        self._parsing = exchange
        if self._seen_before:
            self._seen_before = False
            exchange.seen_before = True
            self._prepared = exchange
        if self._current is None and not (self._queue or self.writing_is_paused or self._closing):
            self._begin(exchange)
        else:
            exchange.buffered = []
            self._queue.append(exchange)
            self._careful = True

    def on_body(self, data: bytes) -> None:
        exchange = self._parsing
        if exchange is None or exchange.done:
            return
        exchange.body_left -= len(data)
        if exchange.body_left < 0:
            self._raised = RefusedError(413, f"body over {self._limits.body_bytes} bytes")
            raise self._raised
        if exchange.chunked:
            self._excess -= 3 * len(data) + CHUNK_FRAMING
        if exchange.buffered is not None:
            exchange.buffered.append(data)
            return
        try:
            self._receiver.body_received(data)
        except Exception as error:  # noqa: BLE001 - whatever an application raises ends its call only
            self._application_failed(exchange, error)

    def on_message_complete(self) -> None:
        exchange = self._parsing
        if exchange is None or self._offered is not None:
            return
        self._parsing = None
        exchange.request_open = False
        if self._bounded:
            self._bounded = False
            self._transport.set_protocol(self)
        if exchange.chunked:
            self._headers = []  # the trailers
        if exchange.done or exchange.buffered is not None:
            return
        try:
            self._receiver.body_complete()
        except Exception as error:  # noqa: BLE001 - as above
            self._application_failed(exchange, error)

    def _bound_reads(self) -> None:
        self._bounded = True
        self._transport.set_protocol(BoundedReads(self))

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        self._body_paused = False
        if self._draining:
            exchange.keep_alive = False
        try:
            receiver = self._application(exchange)
            if not exchange.done:
                self._receiver = receiver
        except Exception as error:  # noqa: BLE001 - as above
            self._application_failed(exchange, error)

    def _begin_queued(self, exchange: Exchange) -> None:
        buffered, exchange.buffered = exchange.buffered or [], None
        self._begin(exchange)
        try:
            for data in buffered:
                if not exchange.done:
                    self._receiver.body_received(data)
            if not (exchange.request_open or exchange.done):
                self._receiver.body_complete()
        except Exception as error:  # noqa: BLE001 - as above
            self._application_failed(exchange, error)
