"""One connection of the server: the order of exchanges, flow control both ways, deadlines, ends.

It holds a parser (sluice.http1.request_parser), which gives it heads and bodies, a deadline
(sluice.http1.timeouts) and maybe a cache of heads (sluice.http1.head_cache), and gives each request
in its turn to the application as an exchange (sluice.http1.exchange). What comes behind the one in
flight waits in a backlog (sluice.http1.backlog).

Traps handled here:
- what is read while an exchange is in flight is held as bytes, up to 64 KiB, and only then is
  reading paused, so that a client that left is noticed;
- a large body is read and delivered in small pieces (sluice.http1.bounded_reads): many at once
  hold little;
- nothing starts while the client does not read its responses;
- an application error ends only its own call: a 500 with a traceback in the log, never a 400;
- a head is taken from the cache only where a message certainly begins, and when its read holds
  exactly one message;
- a connection whose heads never recur stops looking in the cache;
- a response before the whole body was delivered closes the connection, also for a cached head;
- a bad request behind others is refused in its turn; one whose response has started is cut;
- a half close is a client that is gone;
- a close before all was read lingers, as the kernel would reset the connection and the client
  would lose its response;
- a response that only the connection's end would end is broken off by a reset;
- what we do not take (a held body, a head behind an exchange in flight, a body that was not asked
  for) is no fault of the client, and no deadline runs for it.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from sluice.http1.backlog import CHUNK_EXCESS, CHUNK_FRAMING, HEAD_SLICE, HELD_BYTES, Backlog
from sluice.http1.bounded_reads import READ_BYTES, BoundedReads
from sluice.http1.connection_state import (
    BACKLOG,
    BLOCKED,
    BODY_HELD,
    CLOSING,
    ENDS,
    EXCHANGE,
    HEAD,
    IDLE,
    LAST,
    LINGERING,
    ConnectionState,
)
from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Application, Exchange
from sluice.http1.head_cache import HEAD_END, PATIENCE, HeadCache
from sluice.http1.limits import Limits
from sluice.http1.receiver import NullReceiver, Receiver
from sluice.http1.request_parser import RequestParser
from sluice.http1.timeouts import Awaited, Deadline, client_has_left
from sluice.http1.wire import DATE, status_line

log = logging.getLogger(__name__)

WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
PLAIN_TEXT: Final = b"content-type: text/plain; charset=utf-8\r\n"
NULL_RECEIVER: Final = NullReceiver()


def _discard(data: bytes) -> None:
    """Write to a connection that is lost."""


class ServerConnection(asyncio.Protocol):
    """One client's connection.

    connections: the set this keeps itself in while it is open. head_cache: heads that came before,
    shared by a server's connections; None parses every head.
    `sweep` must be called on its members a few times a second, else no timeout works
    (sluice.http1.listener does). `send` and `writing_is_paused` are for the exchanges.
    """

    __slots__ = (
        "_advancing",
        "_application",
        "_backlog",
        "_bounded",
        "_closed",
        "_connections",
        "_current",
        "_deadline",
        "_head_cache",
        "_limits",
        "_misses",
        "_parser",
        "_parsing",
        "_peer",
        "_reading_paused",
        "_receiver",
        "_repeated",
        "_repeated_head",
        "_started",
        "_state",
        "_transport",
        "send",
        "writing_is_paused",
    )

    _transport: asyncio.Transport
    send: Callable[[bytes], None]

    def __init__(
        self,
        application: Application,
        limits: Limits,
        connections: "set[ServerConnection]",
        head_cache: HeadCache | None = None,
    ) -> None:
        # For the connection's whole life.
        self._application, self._limits = application, limits
        self._connections = connections
        self._parser = RequestParser(self, limits)
        self._deadline = Deadline(limits)
        self._head_cache = head_cache
        self._peer = ""
        self._closed: asyncio.Future[None] | None = None
        self._state: ConnectionState = IDLE
        # The exchange in flight, the one whose body is parsed, and what waits. Receivers hold
        # exchanges, and these us: all is let go when done, so that no cycle is left for the
        # garbage collector.
        self._current: Exchange | None = None
        self._receiver: Receiver = NULL_RECEIVER
        self._parsing: Exchange | None = None
        self._backlog = Backlog()
        # Exchanges so far; heads in a row that were new.
        self._started = self._misses = 0
        # A head that came before, while it is parsed, and the exchange it made.
        self._repeated_head: bytes | None = None
        self._repeated: Exchange | None = None
        # Flow control: these are independent of the state.
        self.writing_is_paused = self._reading_paused = self._bounded = False
        # Whether `_advance` runs, which must not be entered twice.
        self._advancing = False

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's, by its server
        self.send = self._transport.write
        # uvloop's own low mark is 16 bytes: a stream would stop and go at every write.
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        name = transport.get_extra_info("peername")
        self._peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:  # noqa: PLR0915 - one frame, as said below
        if self._state is not IDLE or len(data) > HEAD_SLICE:
            self._take(data)
            return
        cache = self._head_cache
        if cache is None:
            self._parse(data)
            return
        end = data.find(HEAD_END) + 4
        head = data[:end]
        known = cache.heads.get(head)
        if known is None or len(data) - end != (known.content_length or 0):
            self._parse_new_head(cache, head, data)
            return
        # What the parser and its callbacks would do, in this one frame: a call of a known head is
        # what a busy server does nearly always.
        self._started += 1
        self._misses = 0
        exchange = Exchange()
        exchange.connection = self
        exchange.peer = self._peer
        exchange.headers = known.headers
        exchange.method = known.method
        exchange.target = known.target
        exchange.path = known.path
        exchange.query = known.query
        exchange.content_length = known.content_length
        exchange.prepared = prepared = known.prepared
        exchange.seen_before = True
        self._current = exchange
        self._state = EXCHANGE
        try:
            if end == len(data):
                receiver = self._application(exchange)
                if not exchange.done:
                    self._receiver = receiver
                    receiver.body_complete()
            else:
                exchange.request_open = True
                receiver = self._application(exchange)
                if not exchange.done:
                    self._receiver = receiver
                    receiver.body_received(data[end:])
                    exchange.request_open = False
                    if not exchange.done:
                        receiver.body_complete()
        except Exception as error:  # noqa: BLE001 - an application error ends only its own call
            self._application_failed(exchange, error)
        if exchange.prepared is not prepared:
            known.prepared = exchange.prepared

    def _parse(self, data: bytes) -> None:
        """Parse what came while nothing was in flight."""
        parser = self._parser
        parser.feed(data)
        if parser.in_head:
            self._settle()

    def _parse_new_head(self, cache: HeadCache, head: bytes, data: bytes) -> None:
        """Parse a message whose head is not known, and remember the head the second time."""
        self._misses += 1
        if self._misses > PATIENCE:
            self._head_cache = None
        if head not in cache.heads:
            self._parse(data)
            cache.note(head)
            return
        self._repeated_head = head
        self._parse(data)
        self._repeated_head = None
        exchange, self._repeated = self._repeated, None
        if exchange is not None:
            cache.remember(head, len(data) - len(head), exchange)

    def eof_received(self) -> None:
        current = self._current
        if current is not None and current.response_started:
            self.cut()
        self._client_gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.send = _discard
        self._parser.close()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._client_gone()

    def pause_writing(self) -> None:
        self.writing_is_paused = True
        state = self._state
        if state is IDLE or state is HEAD:
            self._state = BLOCKED
        elif state is EXCHANGE:
            self._state = BACKLOG
        if self._current is not None and not self._current.done:
            self._receiver.writing_paused()

    def resume_writing(self) -> None:
        self.writing_is_paused = False
        if self._state is BLOCKED:
            self._state = HEAD if self._parser.in_head else IDLE
        if self._current is not None and not self._current.done:
            self._receiver.writing_resumed()
        self._advance()

    # Order: from bytes to exchanges.

    def _take(self, data: bytes) -> None:
        state, backlog = self._state, self._backlog
        if state is LINGERING or state is CLOSING or backlog.refusal is not None:
            return
        backlog.held = backlog.held + data if backlog.held else data
        self._advance()
        if len(backlog.held) >= HELD_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _advance(self) -> None:  # noqa: C901 - one loop: a call a step is 15 % of a read
        """Start what waits and parse what is held, as far as the order of responses allows.

        Responses call this from within the parser too, which must not be entered twice: then either
        this runs already, or nothing is held, as `data_received` parses at once only in that case.
        """
        if self._advancing:
            return
        self._advancing = True
        backlog, parser = self._backlog, self._parser
        while True:
            current, state = self._current, self._state
            if current is not None:
                takes_body = current.request_open and (state is EXCHANGE or state is BACKLOG)
                if not (takes_body and backlog.held):
                    break
                parser.feed(backlog.next_of_body(current))
                if backlog.excess > CHUNK_EXCESS and current.request_open:
                    self.refused(RefusedError(400, "chunked body: more framing than data"))
            elif self.writing_is_paused or state is LINGERING or state is CLOSING:
                break
            elif backlog.queue:
                self._begin_queued(backlog.queue.popleft())
                continue
            elif backlog.refusal is not None:
                self._send_refusal(backlog.refusal)
                break
            elif backlog.held:
                parser.feed(backlog.next_of_head(self._limits.head_bytes - parser.head_bytes))
            else:
                break
            if backlog.excess < 0 or self._current is not current:
                backlog.excess = 0
        self._advancing = False
        self._settle()

    def _settle(self) -> None:
        """Change to the state that follows from what waits now."""
        state, backlog = self._state, self._backlog
        if state is LINGERING or state is CLOSING:
            return
        if self._current is None:
            if state is not LAST:
                in_head = self._parser.in_head
                self._state = BLOCKED if self.writing_is_paused else HEAD if in_head else IDLE
        elif state is not BODY_HELD:
            waits = backlog.held or backlog.queue or backlog.refusal or self._parser.in_head
            self._state = BACKLOG if waits or self.writing_is_paused else EXCHANGE
        if self._reading_paused and len(backlog.held) < HELD_BYTES:
            self._reading_paused = False
            self._transport.resume_reading()

    def _begin(self, exchange: Exchange) -> None:
        if self._state is LAST:
            exchange.keep_alive = False
        self._started += 1
        self._current = exchange
        self._state = EXCHANGE
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

    # For the parser.

    def head_complete(self, exchange: Exchange) -> None:
        """Start the exchange, or let it wait."""
        exchange.connection = self
        exchange.peer = self._peer
        self._parsing = exchange
        if self._repeated_head is not None:
            self._repeated_head = None
            exchange.seen_before = True
            self._repeated = exchange
        if exchange.body_left > READ_BYTES:
            self._bounded = True
            self._transport.set_protocol(BoundedReads(self))
        state = self._state
        if state is IDLE or state is HEAD:
            startable = not self._backlog.queue
        else:
            startable = state is LAST and not (self._backlog.queue or self.writing_is_paused)
        if startable:
            self._begin(exchange)
        else:
            self._backlog.add(exchange)
            if state is EXCHANGE:
                self._state = BACKLOG

    def body_parsed(self, data: bytes) -> None:
        """Deliver a piece of a body, or keep it until its exchange starts."""
        exchange = self._parsing
        if exchange is None or exchange.done:
            return
        exchange.body_left -= len(data)
        if exchange.body_left < 0:
            self._parser.stop(RefusedError(413, f"body over {self._limits.body_bytes} bytes"))
        if exchange.chunked:
            self._backlog.excess -= 3 * len(data) + CHUNK_FRAMING
        if exchange.buffered is not None:
            exchange.buffered.append(data)
            return
        try:
            self._receiver.body_received(data)
        except Exception as error:  # noqa: BLE001 - as above
            self._application_failed(exchange, error)

    def message_complete(self) -> None:
        """Tell the receiver that its request is whole."""
        exchange = self._parsing
        if exchange is None:
            return
        self._parsing = None
        exchange.request_open = False
        if self._bounded:
            self._bounded = False
            self._transport.set_protocol(self)
        if exchange.chunked:
            self._parser.drop_trailers()
        if exchange.done or exchange.buffered is not None:
            return
        try:
            self._receiver.body_complete()
        except Exception as error:  # noqa: BLE001 - as above
            self._application_failed(exchange, error)

    def unparsed(self, data: bytes) -> None:
        """Hold what is to be parsed again."""
        # Not fed at once: a response from within would have the rest parsed inside the parser.
        self._backlog.held = data + self._backlog.held
        self._advance()

    def refused(self, error: RefusedError) -> None:
        """Refuse what cannot be parsed, in its turn."""
        self._backlog.held = b""
        current = self._current
        if self._state in ENDS:
            return
        if current is not None and current.request_open:
            self._fail(current, error)
            return
        self._backlog.refuse(error)
        self._advance()

    # For the exchanges.

    def exchange_done(self, keep_alive: bool) -> None:
        """Close after the response where that is due, else turn to the next request."""
        self._receiver = NULL_RECEIVER
        if keep_alive and self._state is EXCHANGE:
            self._current = None
            self._state = IDLE
            return
        current, self._current = self._current, None
        if keep_alive:
            self._state = BLOCKED if self.writing_is_paused else IDLE
            self._advance()
        else:
            unread = current is not None and current.request_open
            self._close(unread=unread or bool(self._backlog.held))

    def cut(self) -> None:
        """Reset the connection: an orderly end could pass for the end of a response."""
        self._state = CLOSING
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def pause_body(self) -> None:
        """Hold back what comes of the body; reading goes on up to a bound."""
        if self._state is EXCHANGE or self._state is BACKLOG:
            self._state = BODY_HELD

    def resume_body(self) -> None:
        """Deliver what was held back and go on."""
        if self._state is BODY_HELD:
            self._state = EXCHANGE
        self._advance()

    # For the listener.

    def sweep(self, now: float) -> None:
        """End what waits too long; now: monotonic seconds, about four times a second."""
        if self._reading_paused and client_has_left(self._transport):
            self._transport.abort()
            return
        awaited, progress = self._awaits()
        if self._deadline.passed(awaited, progress, now):
            self._expire(awaited)

    def drain(self) -> None:
        """Close once the responses to all that has begun are sent."""
        if self._current is not None:
            self._current.keep_alive = False
        elif self._state in ENDS:
            return
        elif self._parser.in_head or self._backlog.queue or self._backlog.held:
            self._state = LAST
        else:
            self._close(unread=False)

    def abort(self) -> None:
        """Cut the connection now, whatever is in flight."""
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the connection is lost."""
        if self not in self._connections:
            return
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._closed)

    # Deadlines.

    def _awaits(self) -> tuple[Awaited, int]:
        """What is waited for, and a number that changes when it comes nearer."""
        current = self._current
        if self._state is LINGERING:
            return Awaited.REST, 0
        if self._state is CLOSING or self.writing_is_paused:
            return Awaited.CLIENT, self._transport.get_write_buffer_size()
        if current is None:
            return (Awaited.HEAD if self._parser.in_head else Awaited.REQUEST), self._started
        asked = current.continue_sent or not current.expects_continue
        if current.request_open and asked and self._state is not BODY_HELD:
            return Awaited.BODY, current.body_left
        return Awaited.APPLICATION, 0

    def _expire(self, awaited: Awaited) -> None:
        seconds = self._deadline.timeout(awaited)
        if awaited is Awaited.REQUEST:
            self._close(unread=False)
        elif awaited is Awaited.HEAD:
            self.refused(RefusedError(408, f"head not complete in {seconds:g} s"))
        elif awaited is Awaited.BODY:
            self.refused(RefusedError(408, f"no body for {seconds:g} s"))
        else:
            self._transport.abort()

    # Ends.

    def _client_gone(self) -> None:
        self._state = CLOSING
        self._backlog.clear()
        current, self._current = self._current, None
        receiver, self._receiver = self._receiver, NULL_RECEIVER
        self._parsing = None
        if current is not None and not current.done:
            current.done = True
            receiver.client_gone()

    def _send_refusal(self, error: RefusedError) -> None:
        body = f"{error.text}\n".encode()
        framing = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.send(b"".join((status_line(error.status), PLAIN_TEXT, DATE.line, framing, body)))
        self._close(unread=True)

    def _application_failed(self, exchange: Exchange, error: Exception) -> None:
        path = exchange.path.decode()
        log.error("application failed: %s %s", exchange.method, path, exc_info=error)
        self._fail(exchange, RefusedError(500, "internal error"))

    def _fail(self, exchange: Exchange, error: RefusedError) -> None:
        """End an exchange that cannot go on, and let its receiver know."""
        if exchange.done:
            return
        receiver = self._receiver
        exchange.close_after()
        if exchange.response_started:
            exchange.abort()
        else:
            exchange.respond(error.status, PLAIN_TEXT, f"{error.text}\n".encode())
        try:
            receiver.client_gone()
        except Exception:
            log.exception("application failed: %s %s", exchange.method, exchange.path.decode())

    def _close(self, *, unread: bool) -> None:
        """Close once all is sent; unread: the client may still be sending."""
        self._backlog.clear()
        if not (unread and self._transport.can_write_eof()):
            self._state = CLOSING
            self._transport.close()
            return
        self._state = LINGERING
        self._transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
