"""Parses responses: bytes in, heads and pieces of bodies out, by direct calls.

What becomes of the connection is decided in sluice.http1.client.

Traps handled here:
- a response is complete only when the read it came in is parsed: bytes behind it mean a peer out of
  step;
- a read may hold many chunks: they are delivered together, as each would be a write further on;
- 1xx responses are skipped, 101 is refused, as no upgrade was asked for;
- to HEAD llhttp would wait for a body and swallow the next response: it ends at its head;
- heads of responses are bounded, as are 1xx in front of them (llhttp bounds nothing);
- transfer-encoding other than chunked is refused: its framing would be lost in passing on.
"""

import logging
from enum import Enum, auto
from typing import Final, Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from sluice.http1.errors import Http1Error, MalformedResponseError
from sluice.http1.wire import NAMES, header_name

log = logging.getLogger(__name__)

HEAD_BYTES: Final = 64 * 1024
HEAD_FIELDS: Final = 100
# As for requests (sluice.http1.backlog): 16 bytes of framing a chunk and twice the data.
CHUNK_FRAMING: Final = 16
CHUNK_EXCESS: Final = 64 * 1024


class ResponseState(Enum):
    """What of a response comes next."""

    # The first byte of its head.
    START = auto()
    # More of its head; also the first byte of a response to HEAD, which is never cached.
    HEAD = auto()
    # The end of a 1xx response, and then another head.
    INTERIM = auto()
    # A body of a declared length.
    BODY = auto()
    # A chunked body.
    CHUNKS = auto()
    # A body that ends with the connection.
    UNTIL_CLOSE = auto()
    # Nothing.
    COMPLETE = auto()


# Names of the module: a look-up in the class would cost the hot path twice as much.
START: Final = ResponseState.START
HEAD: Final = ResponseState.HEAD
INTERIM: Final = ResponseState.INTERIM
BODY: Final = ResponseState.BODY
CHUNKS: Final = ResponseState.CHUNKS
UNTIL_CLOSE: Final = ResponseState.UNTIL_CLOSE
COMPLETE: Final = ResponseState.COMPLETE


class ParserListener(Protocol):
    """Receives what a `ResponseParser` parses, in the order of the bytes. May raise."""

    def head_parsed(self) -> None:
        """The head of the final response; the parser's attributes hold what it says."""

    def body_parsed(self, data: bytes) -> None:
        """A piece of the body; the chunks of one read are one piece."""


class ResponseParser:
    """The parser of one connection, for one response at a time.

    status (0 until then), reason, headers, length and keep_alive are those of the final head.
    headers: lower-case names. length: what content-length says, 0 for 204 and 304 without one, None
    when unknown.
    """

    __slots__ = (
        "_excess",
        "_failure",
        "_fields",
        "_head_bytes",
        "_head_only",
        "_listener",
        "_parser",
        "_pieces",
        "_words",
        "headers",
        "keep_alive",
        "length",
        "reason",
        "state",
        "status",
    )

    def __init__(self, listener: ParserListener) -> None:
        self._listener = listener
        self._parser = HttpResponseParser(self)
        self.state = START
        self._head_only = False
        # The head that is parsed now, 1xx included.
        self._fields: list[tuple[bytes, bytes]] = []
        self._words = b""
        self._head_bytes = 0
        # Chunks of the read that is parsed now, and how far their framing exceeds what is fair.
        self._pieces: list[bytes] = []
        self._excess = 0
        self._failure: Exception | None = None
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.keep_alive = False

    def expect_head_only(self) -> None:
        """Take the next response for one to HEAD."""
        self._head_only = True
        self.state = HEAD

    def reset(self) -> None:
        """Make ready for the next response."""
        if self._head_only:
            self._head_only = False
            self._parser = HttpResponseParser(self)  # the old one waits for a body
        self.state = START
        self._head_bytes = self._excess = 0

    def close(self) -> None:
        """Let go of the listener: else a cycle waits for the garbage collector."""
        del self._parser, self._listener

    def feed(self, data: bytes) -> Exception | None:
        """Parse; returns why the response is broken, or what is wrong behind a complete one."""
        state = self.state
        if state is START:
            self.state = state = HEAD
            self.status = 0
        if state is HEAD or state is INTERIM:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                data = self._feed_to_limit(data)
        elif state is CHUNKS:
            self._excess += len(data)
        self._feed(data)
        if self._pieces:
            self._deliver()
        if self._failure is None and self._excess > CHUNK_EXCESS and self.state is CHUNKS:
            self._failure = MalformedResponseError("chunked response: more framing than data")
        return self._failure

    # For httptools.

    def on_message_begin(self) -> None:
        if self.state is COMPLETE:
            raise MalformedResponseError("bytes behind the response")

    def on_status(self, reason: bytes) -> None:
        self._words += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is HEAD:  # else a trailer
            try:
                name = NAMES[name]
            except KeyError:
                name = header_name(name)
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._fields = self._fields, []
        reason, self._words = self._words, b""
        if status < 200:
            if status == 101:
                raise MalformedResponseError("upgrade that was not asked for")
            self.state = INTERIM
            return
        if len(headers) > HEAD_FIELDS:
            raise MalformedResponseError(f"head of the response over {HEAD_FIELDS} lines")
        self.keep_alive = self._parser.should_keep_alive()
        if not self.keep_alive and self._parser.get_http_version() not in {"1.1", "1.0"}:
            raise MalformedResponseError("the response is not HTTP/1.1")
        self._read_framing(status, headers)
        self.status, self.reason, self.headers = status, reason, headers
        if self._head_only:
            self.state = COMPLETE
        self._listener.head_parsed()

    def on_body(self, data: bytes) -> None:
        if self.state is CHUNKS:
            self._excess = max(0, self._excess - 3 * len(data) - CHUNK_FRAMING)
            self._pieces.append(data)
        elif self.state is COMPLETE:
            raise MalformedResponseError("bytes behind the response")
        else:
            self._listener.body_parsed(data)

    def on_message_complete(self) -> None:
        self.state = HEAD if self.state is INTERIM else COMPLETE

    def _deliver(self) -> None:
        """Deliver the chunks of one read together: a stream of 16 costs the gateway half."""
        data, self._pieces = b"".join(self._pieces), []
        try:
            self._listener.body_parsed(data)
        except Exception as error:  # whatever a listener raises ends its call only
            log.exception("reading a response failed")
            self._failure, self.state = error, CHUNKS

    def _feed_to_limit(self, data: bytes) -> bytes:
        """Feed what the limit leaves to the head; returns the rest, if the head ended in it."""
        room = HEAD_BYTES - self._head_bytes + len(data)
        self._feed(data[:room])
        if self._failure is None and (self.state is HEAD or self.state is INTERIM):
            self._failure = MalformedResponseError(f"head of the response over {HEAD_BYTES} bytes")
        return data[room:] if self._failure is None else b""

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._failure = MalformedResponseError("upgrade that was not asked for")
        except HttpParserCallbackError as error:
            self._failure = _cause(error)
        except HttpParserError as error:
            self._failure = MalformedResponseError(f"the response is not HTTP/1.1: {error}")

    def _read_framing(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Set the declared length, and what ends the body."""
        length = 0 if status in {204, 304} else None
        chunked = False
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.strip(b" \t").lower() != b"chunked":
                    raise MalformedResponseError("transfer-encoding other than chunked")
                chunked = True
        self.length = length
        self.state = CHUNKS if chunked else UNTIL_CLOSE if length is None else BODY


def _cause(error: HttpParserCallbackError) -> Exception:
    cause = error.__context__
    if isinstance(cause, Http1Error):
        return cause
    log.error("reading a response failed", exc_info=cause)
    return cause if isinstance(cause, Exception) else error
