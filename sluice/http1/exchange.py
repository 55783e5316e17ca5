"""One request and its response, as the application sees them.

The server makes an `Exchange` when the head of a request is read and its turn has come, and calls
`application(exchange)`, which returns the `Receiver` of what follows. All of it runs on the loop,
in callbacks; nothing here makes a task, timer or lock. Once the exchange is done (response sent,
cut, or the client gone) its receiver is called no more and calls on it do nothing.

Traps handled here:
- a response before the whole request was read says `connection: close`, and the connection closes;
- a broken response never ends like a complete one: no last chunk, and a reset where the end of
  the connection is what ends the response;
- HEAD, 204 and 304 carry no body, and 204 no length; HTTP/1.0 gets no chunks;
- an empty `write` is not sent, as an empty chunk would end the body;
- a body longer or shorter than its declared length cuts the connection;
- the head waits for the first bytes of the body of the same tick, so that both are one write; a
  last piece and the end are one, too.
"""

from asyncio import get_running_loop
from collections.abc import Callable
from typing import Final

from sluice.http1.receiver import Connection, Receiver
from sluice.http1.wire import CONTINUE, DATE, LAST_CHUNK, STATUS_LINES, chunk, status_line

__all__ = ["Application", "Exchange", "Receiver"]

# Those of responses with a body.
BODY_STATUS_LINES: Final = {
    status: line
    for status, line in STATUS_LINES.items()
    if status >= 200 and status not in {204, 304}
}
# Joining head and body costs a copy, two writes cost a system call: the break-even is about here.
LARGEST_JOINED: Final = 256 * 1024


class Exchange:
    """A request whose turn has come, and the way to respond to it.

    In: method; target (normal form, see sluice.http1.request_parser), path and query of it; headers
    in the order sent, lower-case names, hop-by-hop ones included; http_version "1.1" or "1.0";
    content_length; chunked; expects_continue; upgrade (what the client offered, served as plain
    HTTP/1.1); peer "ip:port" or "unix"; keep_alive (whether the connection stays open after it).
    """

    # Defaults on the class: a request without these costs nothing for them.
    http_version: str = "1.1"
    content_length: int | None = None
    chunked: bool = False
    expects_continue: bool = False
    keep_alive: bool = True
    upgrade: bytes | None = None
    response_started: bool = False
    done: bool = False
    status: int = 0
    # The same head came before. What an application derives from the head alone it may leave as
    # `prepared`; the next exchange with the same head has it (sluice.http1.head_cache).
    seen_before: bool = False
    prepared: object | None = None

    # The rest is between the exchange and its connection.
    connection: Connection
    # Whether some of the request's body is still to come, and how much of it at most.
    request_open: bool = False
    body_left: int = 0
    # The body of one that waits its turn.
    buffered: list[bytes] | None = None
    continue_sent: bool = False
    _head: bytes = b""
    _bodyless: bool = False
    _chunks: bool = False
    _remaining: int | None = None

    # Set by the reader, one by one: a constructor would be one more call a request.
    peer: str
    method: str
    headers: list[tuple[bytes, bytes]]
    target: bytes
    path: bytes
    query: bytes

    @property
    def writing_paused(self) -> bool:
        """Whether the client reads slower than the response is written."""
        return self.connection.writing_is_paused

    def send_continue(self) -> None:
        """Ask for the body, when the client waits to be asked (`expect: 100-continue`)."""
        if not self.expects_continue or self.continue_sent or not self.request_open:
            return
        if not (self.response_started or self.done):
            self.continue_sent = True
            self.connection.send(CONTINUE)

    def respond(self, status: int, header_lines: bytes, body: bytes) -> None:
        """Send the whole response in one write.

        header_lines: rendered lines with lower-case names (`wire.header_lines`), without
        content-length, transfer-encoding and connection. Raises ValueError for a status that is
        not 200 to 999, RuntimeError when a response was started.
        """
        if self.done:
            return
        if self.response_started or self.request_open or not self.keep_alive:
            self._respond_rarely(status, header_lines, body)
            return
        line = BODY_STATUS_LINES.get(status)
        if line is None or self.method == "HEAD" or self.http_version != "1.1":
            self._respond_rarely(status, header_lines, body)
            return
        size = len(body)
        if size > LARGEST_JOINED:
            self._respond_rarely(status, header_lines, body)
            return
        date = DATE.line
        if b"date:" in header_lines:
            date = _date_unless_sent(header_lines)
        self.response_started = self.done = True
        self.status = status
        framing = b"content-length: %d\r\n\r\n" % size
        connection = self.connection
        connection.send(b"".join((line, header_lines, date, framing, body)))
        connection.exchange_done(True)

    def _respond_rarely(self, status: int, header_lines: bytes, body: bytes) -> None:
        self._begin(status, header_lines, len(body))
        if body:
            self.write(body)
        self.end()

    def start_response(self, status: int, header_lines: bytes, length: int | None) -> None:
        """Start a response whose body follows by `write` and `end`.

        length: bytes of the body; None sends chunks, or to HTTP/1.0 all until the connection's
        end. A HEAD may state the length it would have. Raises as `respond` does.
        """
        if self.done:
            return
        self._begin(status, header_lines, length)
        get_running_loop().call_soon(self._flush_head)

    def write(self, data: bytes) -> None:
        """Send a piece of the body.

        Raises ValueError when the body gets longer than declared (the connection is cut),
        RuntimeError when no response was started.
        """
        if self.done or not data:
            return
        if not self.response_started:
            raise RuntimeError("write before start_response")
        if self._bodyless:
            return
        if self._chunks:
            data = chunk(data)
        elif self._remaining is not None:
            self._remaining -= len(data)
            if self._remaining < 0:
                self.abort()
                raise ValueError("the body is longer than the length declared for it")
        self._send(data)

    def end(self, last: bytes = b"") -> None:
        """Finish the response; one that is short of its declared length is cut instead.

        last: the last piece of the body, in one write with the end. Raises as `write` does.
        """
        if self.done:
            return
        if not self.response_started:
            raise RuntimeError("end before start_response")
        if last and self._chunks:
            self._send(chunk(last) + LAST_CHUNK)
        else:
            self.write(last)
            if self._remaining and not self._bodyless:
                self.abort()
                return
            self._send(LAST_CHUNK if self._chunks else b"")
        self.done = True
        self.connection.exchange_done(self.keep_alive)

    def abort(self) -> None:
        """Cut the connection, so that the client sees that the response is broken."""
        if not self.done:
            self.done = True
            self.connection.cut()

    def close_after(self) -> None:
        """Close the connection after this response; one not started yet says so in its head."""
        self.keep_alive = False

    def pause_reading(self) -> None:
        """Take no more of the request's body than has been read."""
        if not self.done:
            self.connection.pause_body()

    def resume_reading(self) -> None:
        """Take the body again; may call the receiver before it returns."""
        if not self.done:
            self.connection.resume_body()

    def _begin(self, status: int, header_lines: bytes, length: int | None) -> None:
        if self.response_started:
            raise RuntimeError("a response was already started")
        if status < 200:
            raise ValueError(f"status {status}: expected 200 to 999")
        line = status_line(status)
        self.status = status
        framing = self._framing(status, length)
        if self.request_open:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        elif self.http_version != "1.1":
            framing += b"connection: keep-alive\r\n"
        date = _date_unless_sent(header_lines)
        self.response_started = True
        self._head = b"".join((line, header_lines, date, framing, b"\r\n"))

    def _framing(self, status: int, length: int | None) -> bytes:
        """The line that says where the body ends; decides how `write` and `end` frame it."""
        if status in {204, 304}:
            self._bodyless = True
            return b""
        if self.method == "HEAD":
            self._bodyless = True
            return b"" if length is None else b"content-length: %d\r\n" % length
        if length is not None:
            self._remaining = length
            return b"content-length: %d\r\n" % length
        if self.http_version == "1.1":
            self._chunks = True
            return b"transfer-encoding: chunked\r\n"
        self.keep_alive = False
        return b""

    def _send(self, data: bytes) -> None:
        head = self._head
        if head:
            self._head = b""
            if len(data) > LARGEST_JOINED:
                self.connection.send(head)
            else:
                data = head + data
        if data:
            self.connection.send(data)

    def _flush_head(self) -> None:
        if self._head and not self.done:
            self._send(b"")


def _date_unless_sent(header_lines: bytes) -> bytes:
    if header_lines.startswith(b"date:") or b"\r\ndate:" in header_lines:
        return b""
    return DATE.line


Application = Callable[[Exchange], Receiver]
