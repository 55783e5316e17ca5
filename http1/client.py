"""One client connection that keeps alive: a request out, its answer in by callbacks.

Traps handled here:
- an answer is reported whole only when the read it came in is parsed: bytes behind it mean a peer
  out of step, and the connection is never used again; neither is one that speaks unasked;
- 1xx answers are skipped, 101 is refused, as no upgrade was asked for;
- to HEAD the parser would wait for a body and swallow the next answer: it is replaced at the head;
- an answer without length ends with the connection, clean only if that was closed in peace;
- heads of answers are bounded, as are 1xx in front of them (the parser bounds nothing);
- transfer-encoding other than chunked is refused: its framing would be lost in passing on;
- after a write to a Unix socket whose peer is gone, `is_closing` is true in the same call: nothing
  was sent, and the call may be made again elsewhere. On TCP nobody knows;
- `connection_lost` runs ticks later than the write that failed: callbacks go by the state.
"""

import asyncio
import logging
from typing import Final, Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from http1.errors import ConnectionClosedError, Http1Error, MalformedAnswerError
from http1.wire import NAMES, header_name

log = logging.getLogger(__name__)

HEAD_BYTES: Final = 64 * 1024
HEAD_FIELDS: Final = 100
WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
# As for requests (http1.turns): 16 bytes of framing a chunk and twice the data are fair.
CHUNK_FRAMING: Final = 16
CHUNK_EXCESS: Final = 64 * 1024

UnixPath = str
Address = UnixPath | tuple[str, int]


class ResponseListener(Protocol):
    """Who hears of an answer; any object with these methods.

    After `response_complete` or `response_failed` nothing more is called for that request.
    """

    def response_started(
        self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        """The head of the final answer; lower-case names, hop-by-hop headers included.

        length: what content-length says, 0 for 204 and 304 without one, None when unknown.
        """

    def response_body(self, data: bytes) -> None:
        """A piece of the body; one read's worth may still come after `pause_reading`."""

    def response_complete(self, reusable: bool) -> None:
        """The answer is whole; reusable: whether the connection may carry another request."""

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        """No (whole) answer will come; the connection is closed.

        nothing_sent: the peer certainly got no byte of the request, so that it may be repeated.
        """

    def sending_paused(self) -> None:
        """More than 64 KiB of the request wait for the peer: stop writing."""

    def sending_resumed(self) -> None:
        """The peer has read on."""


class ClientConnection(asyncio.Protocol):
    """A connection to one peer, for one request at a time.

    reusable: whether `send` may be called now. idle_since: loop time of the last answer's end,
    or of the connect.
    """

    __slots__ = (
        "_answered",
        "_chunked",
        "_excess",
        "_failure",
        "_head_bytes",
        "_head_only",
        "_headers",
        "_in_head",
        "_keep_alive",
        "_listener",
        "_loop",
        "_nothing_sent",
        "_open",
        "_parser",
        "_reading_paused",
        "_reason",
        "_skip",
        "_transport",
        "_until_close",
        "idle_since",
        "reusable",
    )

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._listener: ResponseListener | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._head_bytes = self._excess = 0
        self._in_head = True
        self._answered = self._head_only = self._keep_alive = self._open = self._skip = False
        self._chunked = self._nothing_sent = self._until_close = self._reading_paused = False
        self._failure: Exception | None = None
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

    def data_received(self, data: bytes) -> None:
        if self._listener is None:
            self.close()  # a peer that speaks unasked is out of step
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                data = self._feed_to_limit(data)
        elif self._chunked:
            self._excess += len(data)
        self._feed(data)
        if self._answered:
            self._complete()
        elif self._failure is not None:
            self._fail(self._failure)
        elif self._excess > CHUNK_EXCESS:
            self._fail(MalformedAnswerError("chunked answer: more framing than data"))

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

    # For the parser.

    def on_message_begin(self) -> None:
        if self._answered:
            raise MalformedAnswerError("bytes behind the answer")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer
            try:
                name = NAMES[name]
            except KeyError:
                name = header_name(name)
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        reason, self._reason = self._reason, b""
        if status < 200:
            self._skip = True
            if status == 101:
                raise MalformedAnswerError("upgrade that was not asked for")
            return
        if len(headers) > HEAD_FIELDS:
            raise MalformedAnswerError(f"head of the answer over {HEAD_FIELDS} lines")
        self._in_head = False
        self._keep_alive = self._parser.should_keep_alive()
        if not self._keep_alive and self._parser.get_http_version() not in {"1.1", "1.0"}:
            raise MalformedAnswerError("the answer is not HTTP/1.1")
        length = self._read_framing(status, headers)
        if self._head_only:
            self._answered = True
            self._until_close = False
        if self._listener is not None:
            self._listener.response_started(status, reason, headers, length)

    def on_body(self, data: bytes) -> None:
        if self._answered:
            raise MalformedAnswerError("bytes behind the answer")
        if self._chunked:
            self._excess = max(0, self._excess - 3 * len(data) - CHUNK_FRAMING)
        if self._listener is not None:
            self._listener.response_body(data)

    def on_message_complete(self) -> None:
        if self._skip:
            self._skip = False
        else:
            self._answered = True

    # The answer's course.

    def _feed_to_limit(self, data: bytes) -> bytes:
        """Feed what the limit leaves to the head; returns the rest, if the head ended in it."""
        room = HEAD_BYTES - self._head_bytes + len(data)
        self._feed(data[:room])
        if self._in_head and self._failure is None:
            self._failure = MalformedAnswerError(f"head of the answer over {HEAD_BYTES} bytes")
        return data[room:] if self._failure is None else b""

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._failure = MalformedAnswerError("upgrade that was not asked for")
        except HttpParserCallbackError as error:
            self._failure = _cause(error)
        except HttpParserError as error:
            self._failure = MalformedAnswerError(f"the answer is not HTTP/1.1: {error}")

    def _read_framing(self, status: int, headers: list[tuple[bytes, bytes]]) -> int | None:
        """The declared length; decides whether the connection's end ends the answer."""
        length = 0 if status in {204, 304} else None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.strip(b" \t").lower() != b"chunked":
                    raise MalformedAnswerError("transfer-encoding other than chunked")
                self._chunked = True
        self._until_close = length is None and not self._chunked
        return length

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


def _cause(error: HttpParserCallbackError) -> Exception:
    cause = error.__context__
    if isinstance(cause, Http1Error):
        return cause
    log.error("reading an answer failed", exc_info=cause)
    return cause if isinstance(cause, Exception) else error


def _why(error: Exception | None) -> str:
    return f": {error}" if error is not None and str(error) else ""
