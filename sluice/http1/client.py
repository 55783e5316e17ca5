"""One client connection that keeps alive: a request out, its response in by callbacks.

It holds a parser (sluice.http1.response_parser) and maybe a cache of heads
(sluice.http1.response_cache).

Traps handled here:
- a connection with bytes behind a response is never used again, nor one that speaks unasked;
- a response without length ends with the connection, clean only if that was closed in peace;
- after a write to a Unix socket whose peer is gone, `is_closing` is true in the same call: nothing
  was sent, and the call may be made again elsewhere. On TCP nobody knows;
- `connection_lost` runs ticks later than the write that failed: callbacks go by the state;
- a response before the request was sent whole ends the connection;
- a head is taken from the cache only where a response certainly begins, and when its read holds
  exactly one whole response: then the parser, which sees nothing of it, stands where it stood;
- the time is left out of a head only where it is digits and a point, so that no byte of another
  meaning is passed over;
- a connection whose heads never recur stops looking in the cache.
"""

import asyncio
import logging
from typing import Final, Protocol

from sluice.http1.errors import ConnectionClosedError
from sluice.http1.head_cache import HEAD_END, PATIENCE
from sluice.http1.response_cache import (
    DIGITS,
    RESPONSE_HEADS,
    TIME_BYTES,
    TIME_LINE,
    TIME_NAME,
    KnownResponse,
    ResponseCache,
)
from sluice.http1.response_parser import COMPLETE, HEAD_BYTES, START, UNTIL_CLOSE, ResponseParser

__all__ = ["HEAD_BYTES", "Address", "ClientConnection", "ResponseListener", "connect"]

log = logging.getLogger(__name__)

WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024

UnixPath = str
Address = UnixPath | tuple[str, int]


class ResponseListener(Protocol):
    """Receives a response; any object with these methods.

    After `response_complete` or `response_failed` nothing more is called for that request.
    """

    def response_started(
        self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        """The head of the final response; lower-case names, hop-by-hop headers included.

        length: what content-length says, 0 for 204 and 304 without one, None when unknown.
        """

    def response_body(self, data: bytes) -> None:
        """A piece of the body; one read's worth may still come after `pause_reading`.

        Chunks that came in one read are one piece.
        """

    def response_complete(self, reusable: bool) -> None:
        """The response is complete; reusable: whether the connection may carry another request."""

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        """No (whole) response will come; the connection is closed.

        nothing_sent: the peer certainly got no byte of the request, so that it may be repeated.
        """

    def sending_paused(self) -> None:
        """More than 64 KiB of the request wait for the peer: stop writing."""

    def sending_resumed(self) -> None:
        """The peer has read on."""


class ClientConnection(asyncio.Protocol):
    """A connection to one peer, for one request at a time.

    head_cache: heads of responses that came before; None parses every head. reusable: whether
    `send` may be called now. idle_since: loop time of the last response's end, or of the connect.
    all_received: whether no piece of the response comes after the one that is delivered now. known:
    the head of the response that is delivered now, when it came before.
    """

    __slots__ = (
        "_head_cache",
        "_listener",
        "_loop",
        "_misses",
        "_nothing_sent",
        "_open",
        "_parser",
        "_reading_paused",
        "_transport",
        "all_received",
        "idle_since",
        "known",
        "reusable",
    )

    _transport: asyncio.Transport

    def __init__(self, head_cache: ResponseCache | None = RESPONSE_HEADS) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = ResponseParser(self)
        self._head_cache = head_cache
        # Heads in a row that were new.
        self._misses = 0
        self.reusable = False
        self.idle_since = 0.0
        # Of the request in flight. _open: more of it is to be written.
        self._listener: ResponseListener | None = None
        self._open = self._nothing_sent = self.all_received = False
        self.known: KnownResponse | None = None
        self._reading_paused = False

    # For the caller.

    def send(
        self, data: bytes, listener: ResponseListener, head_only: bool = False, more: bool = False
    ) -> None:
        """Send a request's head, or head and body, on a connection that is `reusable`.

        head_only: the request is a HEAD. more: the body follows by `write`, ended by `finish`;
        a response before that end makes the connection not reusable. Failures come by
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
        if head_only:
            self._parser.expect_head_only()
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
        """Cut the connection; the listener is called no more."""
        self._listener = None
        self.reusable = False
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.reusable = False
        self._transport.close()

    def pause_reading(self) -> None:
        """Take no more of the response than has been read."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take the response again."""
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

    def data_received(self, data: bytes) -> None:  # noqa: PLR0915 - one frame: see below
        listener = self._listener
        if listener is None:
            self.close()  # a peer that speaks unasked is out of step
            return
        cache = self._head_cache
        if cache is None or self._parser.state is not START:
            self._parse(data)
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
        known = cache.heads.get(key)
        if known is None or len(data) - end != known.length:
            self._misses += 1
            if self._misses > PATIENCE:
                self._head_cache = None
            self._parse(data)
            cache.remember(key, data, end, at, self._parser)
            return
        # What the parser and its callbacks would do, in this one frame: most responses of a busy
        # replica have a known head.
        self._misses = 0
        self.known = known
        headers = known.headers
        if known.timed is not None:
            headers = headers.copy()
            headers[known.timed] = (TIME_NAME, time)
        try:
            listener.response_started(known.status, known.reason, headers, known.length)
            self.all_received = True
            if end != len(data) and self._listener is not None:
                listener.response_body(data[end:])
        except Exception as error:
            log.exception("reading a response failed")
            self._fail(error)
            return
        self._complete(keep_alive=True)

    def _parse(self, data: bytes) -> None:
        self.known = None
        parser = self._parser
        failure = parser.feed(data)
        if parser.state is COMPLETE:
            keep_alive = parser.keep_alive and failure is None
            parser.reset()
            self._complete(keep_alive=keep_alive)
        elif failure is not None:
            self._fail(failure)

    def eof_received(self) -> None:
        """Let the transport close: what the end means is decided when it is lost."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        until_close = self._parser.state is UNTIL_CLOSE
        self._parser.close()
        if exc is None and until_close and self._listener is not None:
            self._complete(keep_alive=False)
        else:
            error = ConnectionClosedError(f"the peer closed the connection{_why(exc)}")
            error.__cause__ = exc  # a reset means that the request was not read
            self._fail(error)

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.sending_paused()

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.sending_resumed()

    # For the parser.

    def head_parsed(self) -> None:
        """Report the head of the response."""
        parser = self._parser
        self.all_received = parser.state is COMPLETE
        if self._listener is not None:
            self._listener.response_started(
                parser.status, parser.reason, parser.headers, parser.length
            )

    def body_parsed(self, data: bytes) -> None:
        """Deliver a piece of the body."""
        self.all_received = self._parser.state is COMPLETE
        if self._listener is not None:
            self._listener.response_body(data)

    # Ends.

    def _complete(self, *, keep_alive: bool) -> None:
        listener, self._listener = self._listener, None
        if keep_alive and not self._open and not self._transport.is_closing():
            self.all_received = False
            self.idle_since = self._loop.time()
            self.reusable = True
            if self._reading_paused:
                self.resume_reading()
        elif self._open:
            self._transport.abort()
        else:
            self._transport.close()
        if listener is not None:
            listener.response_complete(self.reusable)

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
