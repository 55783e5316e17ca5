"""A connection of the server, as its transport, its exchanges and the listener see it.

Traps handled here (reading: sluice.http1.reader, order: sluice.http1.pipelining, times:
sluice.http1.timeouts, answers: sluice.http1.exchange):
- an error of the application is a 500 with a traceback in the log, never a 400;
- a bad request behind others is answered in its turn; one whose answer was begun is cut;
- a half close is a client that is gone;
- a close before all was read lingers, as the kernel would reset the connection and the client
  would lose its answer;
- an answer that only the connection's end would end is broken off by a reset.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Application, Exchange
from sluice.http1.head_cache import Heads
from sluice.http1.limits import Limits
from sluice.http1.pipelining import NULL_RECEIVER
from sluice.http1.timeouts import TimedConnection
from sluice.http1.wire import DATE, status_line

log = logging.getLogger(__name__)

WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
PLAIN_TEXT: Final = b"content-type: text/plain; charset=utf-8\r\n"


def _discard(data: bytes) -> None:
    """Write to a connection that is lost."""


class ServerProtocol(TimedConnection):
    """One client's connection.

    connections: the set this keeps itself in while it is open. head_cache: heads that came before,
    shared by a server's connections; None parses every head.
    `sweep` must be called on its members a few times a second, else no timeout works
    (sluice.http1.listener does).
    """

    __slots__ = ("_closed", "_connections", "send")

    send: Callable[[bytes], None]

    def __init__(
        self,
        application: Application,
        limits: Limits,
        connections: "set[ServerProtocol]",
        head_cache: Heads | None = None,
    ) -> None:
        super().__init__(application, limits, head_cache)
        self._connections = connections
        self._closed: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's, by its server
        self.send = self._transport.write
        # uvloop's own low mark is 16 bytes: a stream would stop and go at every write.
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        name = transport.get_extra_info("peername")
        self._peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.send = _discard
        del self._parser  # it holds our methods: a cycle that would wait for the collector
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._client_gone()

    def eof_received(self) -> None:
        current = self._current
        if current is not None and current.response_started:
            self.cut()
        self._client_gone()

    def pause_writing(self) -> None:
        self.writing_is_paused = self._careful = True
        if self._current is not None and not self._current.done:
            self._receiver.writing_paused()

    def resume_writing(self) -> None:
        self.writing_is_paused = False
        if self._current is not None and not self._current.done:
            self._receiver.writing_resumed()
        self._advance()

    # For the exchanges.

    def exchange_done(self, exchange: Exchange) -> None:
        """Close after the answer where that is due, else turn to the next request."""
        self._current = None
        self._receiver = NULL_RECEIVER
        if not exchange.keep_alive:
            self._close(unread=exchange.request_open or bool(self._held))
        elif self._careful:
            self._advance()

    def cut(self) -> None:
        """Reset the connection: an end in peace could pass for the end of an answer."""
        self._closing = self._careful = True
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def pause_body(self) -> None:
        """Hold back what comes of the body; reading goes on up to a bound."""
        self._body_paused = True

    def resume_body(self) -> None:
        """Deliver what was held back and go on."""
        self._body_paused = False
        self._advance()

    # For the listener.

    def drain(self) -> None:
        """Close once what has begun is answered."""
        self._draining = self._careful = True
        if self._current is not None:
            self._current.keep_alive = False
        elif not (self._in_head or self._queue or self._held or self._closing):
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

    # Ends.

    def _client_gone(self) -> None:
        self._closing = self._careful = True
        self._held = b""
        self._queue.clear()
        current, self._current = self._current, None
        receiver, self._receiver = self._receiver, NULL_RECEIVER
        self._parsing = None
        if current is not None and not current.done:
            current.done = True
            receiver.client_gone()

    def _refuse(self, error: RefusedError) -> None:
        self._held = b""
        self._careful = True
        current = self._current
        if self._closing:
            return
        if current is not None and current.request_open:
            self._fail(current, error)
            return
        if self._queue and self._queue[-1].request_open:
            self._queue.pop()
        self._refusal = error
        self._advance()

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
        """End an exchange that cannot go on, and tell its receiver."""
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
        self._closing = self._careful = True
        self._held = b""
        self._queue.clear()
        if not (unread and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._lingering = True
        self._transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
