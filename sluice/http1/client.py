"""One client connection that keeps alive: a request out, its answer in by callbacks.

Traps handled here (those of parsing are in sluice.http1.responses and sluice.http1.response_cache):
- a connection with bytes behind an answer is never used again, nor one that speaks unasked;
- an answer without length ends with the connection, clean only if that was closed in peace;
- after a write to a Unix socket whose peer is gone, `is_closing` is true in the same call: nothing
  was sent, and the call may be made again elsewhere. On TCP nobody knows;
- `connection_lost` runs ticks later than the write that failed: callbacks go by the state;
- an answer before the request was sent whole ends the connection.
"""

import asyncio
from typing import Final

from httptools import HttpResponseParser

from sluice.http1.errors import ConnectionClosedError
from sluice.http1.response_cache import RESPONSE_HEADS, RecallingReader, ResponseHeads
from sluice.http1.responses import HEAD_BYTES, ResponseListener

__all__ = ["HEAD_BYTES", "Address", "ClientConnection", "ResponseListener", "connect"]

WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024

UnixPath = str
Address = UnixPath | tuple[str, int]


class ClientConnection(RecallingReader):
    """A connection to one peer, for one request at a time.

    head_cache: heads of answers that came before; None parses every head. reusable: whether `send`
    may be called now. idle_since: loop time of the last answer's end, or of the connect.
    """

    __slots__ = (
        "_loop",
        "_nothing_sent",
        "_open",
        "_reading_paused",
        "_transport",
        "idle_since",
        "reusable",
    )

    _transport: asyncio.Transport

    def __init__(self, head_cache: ResponseHeads | None = RESPONSE_HEADS) -> None:
        super().__init__(head_cache)
        self._loop = asyncio.get_running_loop()
        self._nothing_sent = self._open = self._reading_paused = False
        self.reusable = False
        self.idle_since = 0.0

    # For the caller.

    def send(
        self, data: bytes, listener: ResponseListener, head_only: bool = False, more: bool = False
    ) -> None:
        """Send a request's head, or head and body, on a connection that is `reusable`.

        head_only: the request is a HEAD. more: the body follows by `write`, ended by `finish`;
        an answer before that end makes the connection not reusable. Failures come by
        `response_failed`, never from here; RuntimeError when a request is in flight.
        """
        if self._listener is not None:
            raise RuntimeError("a request is in flight on this connection")
        self._listener = listener
        if not self.reusable:
            self._nothing_sent = True
            self._loop.call_soon(self._fail, ConnectionClosedError("the connection was closed"))
            return
        self.reusable = False
        self._head_only = head_only
        self._open = more
        self._transport.write(data)
        if self._transport.is_closing():
            self._nothing_sent = True

    def write(self, data: bytes) -> None:
        """Send more of the request's body, framed by the caller."""
        if self._listener is not None:
            self._transport.write(data)

    def finish(self) -> None:
        """The request that was sent with `more` is whole."""
        self._open = False

    def abort(self) -> None:
        """Cut the connection; the listener hears nothing more."""
        self._listener = None
        self.reusable = False
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.reusable = False
        self._transport.close()

    def pause_reading(self) -> None:
        """Take no more of the answer than has been read."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take the answer again."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's, by `connect`
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        self.idle_since = self._loop.time()
        self.reusable = True

    def eof_received(self) -> None:
        """Let the transport close: what the end means is decided when it is lost."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        del self._parser  # it holds our methods: a cycle that would wait for the collector
        if exc is None and self._until_close and self._listener is not None:
            self._keep_alive = False
            self._complete()
        else:
            error = ConnectionClosedError(f"the peer closed the connection{_why(exc)}")
            error.__cause__ = exc  # a reset tells that the request was not read
            self._fail(error)

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.sending_paused()

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.sending_resumed()

    def _complete(self) -> None:
        listener, self._listener = self._listener, None
        if self._head_only:
            self._parser = HttpResponseParser(self)  # the old one waits for a body
        reusable = (
            self._keep_alive
            and not self._open
            and self._failure is None
            and not self._transport.is_closing()
        )
        if reusable:
            self._reset()
        elif self._open:
            self._transport.abort()
        else:
            self._transport.close()
        if listener is not None:
            listener.response_complete(reusable)

    def _reset(self) -> None:
        """Make ready for the next request."""
        self._answered = self._head_only = self._chunked = self._until_close = False
        self._in_head = True
        self._head_bytes = self._excess = 0
        self.idle_since = self._loop.time()
        self.reusable = True
        if self._reading_paused:
            self.resume_reading()

    def _fail(self, error: Exception) -> None:
        listener, self._listener = self._listener, None
        self.reusable = False
        self._transport.abort()
        if listener is not None:
            listener.response_failed(error, self._nothing_sent)


async def connect(address: Address, timeout: float) -> ClientConnection:  # noqa: ASYNC109 - the contract's name
    """A connection to a Unix socket's path or a (host, port). Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        if isinstance(address, tuple):
            _, connection = await loop.create_connection(ClientConnection, *address)
        else:
            _, connection = await loop.create_unix_connection(ClientConnection, address)
    return connection


def _why(error: Exception | None) -> str:
    return f": {error}" if error is not None and str(error) else ""
