"""A transport that keeps bytes, applications that keep calls, a listener that keeps an answer."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from sluice.http1.connection import ServerConnection
from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.head_cache import HeadCache
from sluice.http1.limits import Limits

HEADERS = b"host: a\r\n"


class FakeTransport(asyncio.Transport):
    """Keeps what is written; says what was asked of it."""

    def __init__(self, peername: Any = ("10.0.0.9", 4711)) -> None:
        super().__init__({"peername": peername})
        self.writes: list[bytes] = []
        self.eof = self.closed = self.aborted = self._reading_paused = False
        self.unsent = 0
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.aborted
        self.writes.append(bytes(data))

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert not self._reading_paused
        self._reading_paused = True

    def resume_reading(self) -> None:
        assert self._reading_paused
        self._reading_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Keep it: a test that is the loop asks for it."""
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    @property
    def output(self) -> bytes:
        return b"".join(self.writes)

    def is_reading(self) -> bool:
        return not self._reading_paused


class Call:
    """A receiver that keeps what it is told and answers only when the test says so."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.body = b""
        self.events: list[str] = []

    def body_received(self, data: bytes) -> None:
        self.body += data
        self.events.append("body")

    def body_complete(self) -> None:
        self.events.append("complete")

    def client_gone(self) -> None:
        self.events.append("gone")

    def writing_paused(self) -> None:
        self.events.append("paused")

    def writing_resumed(self) -> None:
        self.events.append("resumed")

    def response(self, body: bytes = b"") -> None:
        self.exchange.respond(200, b"", body or self.body)


class Echo(Call):
    """Answers with the path and the body it got, once it has all of it."""

    def body_complete(self) -> None:
        self.exchange.respond(200, b"", self.exchange.path + b" " + self.body)


class Served:
    """A server's connection on a fake transport. calls: the receivers made, in order."""

    def __init__(
        self,
        receiver: Callable[[Exchange], Call] = Call,
        limits: Limits | None = None,
        peername: Any = ("10.0.0.9", 4711),
    ) -> None:
        self.calls: list[Call] = []
        self._make = receiver
        self.connections: set[ServerConnection] = set()
        self.protocol = ServerConnection(
            self._application, limits or Limits(), self.connections, head_cache=HeadCache()
        )
        self.transport = FakeTransport(peername)
        self.protocol.connection_made(self.transport)

    def _application(self, exchange: Exchange) -> Receiver:
        call = self._make(exchange)
        self.calls.append(call)
        return call

    def feed(self, *pieces: bytes) -> bytes:
        """Let the client send; returns all that was answered so far."""
        for piece in pieces:
            self.protocol.data_received(piece)
        return self.transport.output

    @property
    def output(self) -> bytes:
        return self.transport.output

    @property
    def call(self) -> Call:
        return self.calls[-1]

    def statuses(self) -> list[int]:
        return statuses(self.output)


def statuses(output: bytes) -> list[int]:
    """The statuses of the answers in `output`, which may hold no such line in a body."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", output)]


def bodies(output: bytes) -> list[bytes]:
    """The bodies of answers that each carry a content-length."""
    found = []
    while output:
        head, _, output = output.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(output[:length])
        output = output[length:]
    return found


def get(path: str = "/", *lines: str, version: str = "1.1") -> bytes:
    """A GET with a host and further header lines."""
    text = "".join(f"{line}\r\n" for line in ("host: a", *lines))
    return f"GET {path} HTTP/{version}\r\n{text}\r\n".encode()


def post(body: bytes, *lines: str, path: str = "/") -> bytes:
    """A POST with a length."""
    text = "".join(f"{line}\r\n" for line in ("host: a", f"content-length: {len(body)}", *lines))
    return f"POST {path} HTTP/1.1\r\n{text}\r\n".encode() + body


def chunked(*pieces: bytes, path: str = "/", end: bytes = b"0\r\n\r\n") -> bytes:
    """A POST in chunks."""
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


class Answer:
    """A listener of one request; `await answer.done` for its end."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.body = b""
        self.reusable: bool | None = None
        self.error: Exception | None = None
        self.nothing_sent: bool | None = None
        self.events: list[str] = []
        self.ended = asyncio.Event()

    def response_started(
        self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        self.status, self.reason, self.headers, self.length = status, reason, headers, length
        self.events.append("started")

    def response_body(self, data: bytes) -> None:
        self.body += data
        self.events.append("body")

    def response_complete(self, reusable: bool) -> None:
        self.reusable = reusable
        self.events.append("complete")
        self.ended.set()

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        self.error, self.nothing_sent = error, nothing_sent
        self.events.append("failed")
        self.ended.set()

    def sending_paused(self) -> None:
        self.events.append("paused")

    def sending_resumed(self) -> None:
        self.events.append("resumed")
