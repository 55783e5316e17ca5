"""Reads answers: bytes in, calls of a listener out; what becomes of the connection is in
sluice.http1.client.

Traps handled here:
- an answer is reported whole only when the read it came in is parsed: bytes behind it mean a peer
  out of step;
- a read may hold many chunks: they are told of together, as each would be a write further on;
- 1xx answers are skipped, 101 is refused, as no upgrade was asked for;
- to HEAD the parser would wait for a body and swallow the next answer: it ends at its head;
- heads of answers are bounded, as are 1xx in front of them (the parser bounds nothing);
- transfer-encoding other than chunked is refused: its framing would be lost in passing on.
"""

import asyncio
import logging
from abc import abstractmethod
from dataclasses import dataclass
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
# As for requests (sluice.http1.pipelining): 16 bytes of framing a chunk and twice the data.
CHUNK_FRAMING: Final = 16
CHUNK_EXCESS: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """What was parsed of the head of a final answer."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    length: int | None
    keep_alive: bool


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
        """A piece of the body; one read's worth may still come after `pause_reading`.

        Chunks that came in one read are one piece.
        """

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


class ResponseReader(asyncio.Protocol):
    """The half of a client's connection that parses."""

    __slots__ = (
        "_answered",
        "_chunked",
        "_excess",
        "_failure",
        "_head",
        "_head_bytes",
        "_head_only",
        "_headers",
        "_in_head",
        "_keep_alive",
        "_listener",
        "_parser",
        "_pieces",
        "_reason",
        "_skip",
        "_until_close",
        "_wanted",
    )

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._listener: ResponseListener | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._head_bytes = self._excess = 0
        self._in_head = True
        self._answered = self._head_only = self._keep_alive = self._skip = False
        self._chunked = self._until_close = False
        self._failure: Exception | None = None
        # The head that was parsed while one was wanted; chunks of the read that is being parsed.
        self._head: Head | None = None
        self._wanted = False
        self._pieces: list[bytes] = []

    @property
    def answered(self) -> bool:
        """Whether no piece of the answer will come after the one that is told of now."""
        return self._answered

    @abstractmethod
    def close(self) -> None:
        """Close the connection, on which no request is in flight."""

    @abstractmethod
    def _complete(self) -> None:
        """Tell that the answer is whole."""

    @abstractmethod
    def _fail(self, error: Exception) -> None:
        """Tell that there is no whole answer and cut the connection."""

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
        if self._pieces:
            self._deliver()
        if self._answered:
            self._complete()
        elif self._failure is not None:
            self._fail(self._failure)
        elif self._excess > CHUNK_EXCESS:
            self._fail(MalformedResponseError("chunked answer: more framing than data"))

    def on_message_begin(self) -> None:
        if self._answered:
            raise MalformedResponseError("bytes behind the answer")

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
                raise MalformedResponseError("upgrade that was not asked for")
            return
        if len(headers) > HEAD_FIELDS:
            raise MalformedResponseError(f"head of the answer over {HEAD_FIELDS} lines")
        self._in_head = False
        self._keep_alive = self._parser.should_keep_alive()
        if not self._keep_alive and self._parser.get_http_version() not in {"1.1", "1.0"}:
            raise MalformedResponseError("the answer is not HTTP/1.1")
        length = self._read_framing(status, headers)
        if self._head_only:
            self._answered = True
            self._until_close = False
        if self._wanted:
            self._head = Head(status, reason, headers, length, self._keep_alive)
        if self._listener is not None:
            self._listener.response_started(status, reason, headers, length)

    def on_body(self, data: bytes) -> None:
        if self._answered:
            raise MalformedResponseError("bytes behind the answer")
        if self._chunked:
            self._excess = max(0, self._excess - 3 * len(data) - CHUNK_FRAMING)
            self._pieces.append(data)
        elif self._listener is not None:
            self._listener.response_body(data)

    def on_message_complete(self) -> None:
        if self._skip:
            self._skip = False
        else:
            self._answered = True

    def _deliver(self) -> None:
        """Tell of the chunks of one read together: a stream of 16 costs the gateway half."""
        data, self._pieces = b"".join(self._pieces), []
        if self._listener is None:
            return
        try:
            self._listener.response_body(data)
        except Exception as error:  # whatever a listener raises ends its call only
            log.exception("reading an answer failed")
            self._failure, self._answered = error, False

    def _feed_to_limit(self, data: bytes) -> bytes:
        """Feed what the limit leaves to the head; returns the rest, if the head ended in it."""
        room = HEAD_BYTES - self._head_bytes + len(data)
        self._feed(data[:room])
        if self._in_head and self._failure is None:
            self._failure = MalformedResponseError(f"head of the answer over {HEAD_BYTES} bytes")
        return data[room:] if self._failure is None else b""

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._failure = MalformedResponseError("upgrade that was not asked for")
        except HttpParserCallbackError as error:
            self._failure = _cause(error)
        except HttpParserError as error:
            self._failure = MalformedResponseError(f"the answer is not HTTP/1.1: {error}")

    def _read_framing(self, status: int, headers: list[tuple[bytes, bytes]]) -> int | None:
        """The declared length; decides whether the connection's end ends the answer."""
        length = 0 if status in {204, 304} else None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.strip(b" \t").lower() != b"chunked":
                    raise MalformedResponseError("transfer-encoding other than chunked")
                self._chunked = True
        self._until_close = length is None and not self._chunked
        return length


def _cause(error: HttpParserCallbackError) -> Exception:
    cause = error.__context__
    if isinstance(cause, Http1Error):
        return cause
    log.error("reading an answer failed", exc_info=cause)
    return cause if isinstance(cause, Exception) else error
