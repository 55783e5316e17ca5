"""Requests as they may come, to a server with its head cache and to one without it.

A case has two connections at a time. What the application does with a path's first two calls stands
in its first letter, what with all further ones in its second, the status in the digit behind:

    e  echo          l  respond late         h  respond at the head    n  echo, without a plan
    s  stream        t  stream, late         b  respond at a piece     o  ask for the body, echo
    c  close after   p  pause reading        q  respond when asked     m  as c, but late
    a  abort         k  abort, half sent     x, y, z  raise: at the head, a piece, the end
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sluice.http1.bounded_reads import BoundedReads
from sluice.http1.connection import ServerConnection
from sluice.http1.exchange import Exchange
from sluice.http1.head_cache import HeadCache
from sluice.http1.limits import Limits
from tests.sluice.http1.equivalence import (
    Outcome,
    Property,
    Read,
    Round,
    Seen,
    cuts,
    damaged,
    difference,
    reads,
)
from tests.sluice.http1.fakes import FakeTransport

LETTERS = "eeeeeeeellllhhssttbbccppqqnomakxyz"
# Connections that live long meet the same heads more often.
KIND = "eeeeebsln"
STATUSES = (200, 200, 200, 200, 200, 200, 204, 304, 404, 201)
THEN = [
    *("", "", "", "", "", "", "", "", "late", "late", "late", "late", "turn"),
    *("full", "empty", "empty", "drain", "eof", "lost", "sweep"),
]
QUIET = ("", "", "late")
TOKENS = (b"\r\n", b"\0", b" ", b":", b"content-length: 7\r\n", b"%", b"HTTP/1.0", b"/../")
LINES: tuple[tuple[bytes, bytes], ...] = (
    (b"X-Y", b"1"),
    (b"x-y", b"1"),
    (b"x-y", b"2"),
    (b"accept", b"*/*"),
    (b"Connection", b"keep-alive"),
    (b"connection", b"close"),
    (b"Host-", b"b"),
)
LIMITS = Limits(body_bytes=100_000)
CHUNKED = [(b"transfer-encoding", b"chunked")]
LONG = (b"x-long", b"y" * 2100)


@dataclass(frozen=True, slots=True)
class Request:
    """wire: its bytes. told: what an application must be told of its head; None: not known."""

    wire: bytes
    told: tuple[Any, ...] | None
    body: bytes
    declared: int | None


@dataclass(frozen=True, slots=True)
class RequestRound(Round):
    """Requests pipelined on one connection."""

    messages: tuple[Request, ...]


def make(seed: int) -> tuple[RequestRound, ...]:
    """A case: a few requests, and a few ways of sending them again and again."""
    chance = Random(seed)
    letters = chance.choice((LETTERS, KIND))
    pool: list[Request] = []
    for _ in range(chance.randint(1, 3)):
        pool.append(_request(chance, letters, pool))
    case: list[RequestRound] = []
    for _ in range(chance.choice((1, 1, 2))):
        requests = tuple(chance.choices(pool, k=chance.choice((1, 1, 1, 2, 2))))
        then = chance.choice((QUIET, QUIET, THEN))
        wires = [request.wire for request in requests]
        lengths = [request.declared for request in requests if request.declared]
        places = cuts(chance, wires, lengths)
        parts = reads(chance, wires, places, then)
        for _ in range(chance.randint(3, 5)):
            if chance.random() < 0.15:
                parts = reads(chance, wires, cuts(chance, wires, lengths), then)
            case.append(RequestRound(chance.choice((0, 0, 0, 1)), parts, requests))
    return tuple(case)


def _request(chance: Random, letters: str, pool: Sequence[Request]) -> Request:
    raw, target = _target(chance, letters)
    more, version = _variation(chance)
    body, length, framing = _framing(chance, pool, version)
    headers = [(b"host", b"a"), *more, *framing]
    if chance.random() < 0.2:
        headers.reverse()
    method = chance.choice((b"GET", b"POST", b"POST", b"PUT", b"HEAD"))
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    sent = _chunked(chance, body) if framing == CHUNKED else body
    wire = b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, raw, version, lines, sent)
    if raw.startswith(b"http:"):
        headers = [(name, b"b") if name == b"host" else (name, value) for name, value in headers]
    lowered = [(name.lower(), value) for name, value in headers]
    told = method.decode(), target, lowered, version.decode(), length
    wrong = chance.random()
    if wrong < 0.05:
        return Request(damaged(chance, wire, TOKENS), None, body, length)
    if wrong < 0.15:
        wire = chance.choice((b"\r\n", b"\r\n\r\n")) + wire
    return Request(wire, told, body, length)


def _target(chance: Random, letters: str) -> tuple[bytes, bytes]:
    """A target as sent, and in normal form."""
    letter = chance.choice(letters)
    then = letter if chance.random() < 0.6 else chance.choice(letters)
    plain = f"/{letter}{then}{chance.randrange(10)}".encode()
    match chance.randrange(40):
        case 0:
            return plain + b"?q=1", plain + b"?q=1"
        case 1:
            return b"/%%%02x" % ord(letter) + plain[2:], plain
        case 2:
            return b"/" + plain, plain
        case 3:
            return b"http://b" + plain, plain
    return plain, plain


def _variation(chance: Random) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers beside those that every request has, and the version."""
    kind = chance.random()
    if kind < 0.3:
        return chance.sample(LINES, chance.randint(1, 2)), b"1.1"
    if kind < 0.35:
        return [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], b"1.1"
    if kind < 0.4:
        return [(b"expect", b"100-continue")], b"1.1"
    if kind < 0.42:
        return [LONG], b"1.1"
    if kind < 0.46:
        return chance.choice(([], [(b"connection", b"keep-alive")])), b"1.0"
    return [], b"1.1"


def _framing(
    chance: Random, pool: Sequence[Request], version: bytes
) -> tuple[bytes, int | None, list[tuple[bytes, bytes]]]:
    """A body, the length that is declared for it, and the header that does."""
    kind = chance.random()
    if kind < 0.3 or (kind < 0.4 and version == b"1.0"):
        return b"", None, []
    body = _body(chance, pool)
    if kind < 0.4:
        return body, None, CHUNKED
    return body, len(body), [(b"content-length", b"%d" % len(body))]


def _body(chance: Random, pool: Sequence[Request]) -> bytes:
    """Small mostly; or a part of another request, that must never be taken for one."""
    kind = chance.random()
    if kind < 0.5:
        return b"x" * chance.randint(0, 9)
    if kind < 0.8:
        return b"y" * chance.randint(10, 300)
    if kind < 0.995 and pool:
        wire = chance.choice(pool).wire
        return wire + wire[: chance.randrange(len(wire))]
    if kind < 0.99:
        return b"z" * chance.randint(300, 600)
    return b"w" * chance.choice((9_000, 70_000))


def _chunked(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    pieces = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part]
    if pieces and chance.random() < 0.1:
        pieces[0] = pieces[0].replace(b"\r\n", b";ext=1\r\n", 1)
    return b"".join(pieces) + chance.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nlate: 1\r\n\r\n"))


class _Wire(FakeTransport):
    """Notes what is asked of it, where the connection's calls are noted."""

    def __init__(self, number: int, seen: list[Seen]) -> None:
        super().__init__(("10.0.0.9", number))
        self.number, self.seen = number, seen

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append((self.number, "write", bytes(data)))

    def write_eof(self) -> None:
        self.eof = True
        self.seen.append((self.number, "eof"))

    def close(self) -> None:
        self.closed = True
        self.seen.append((self.number, "close"))

    def abort(self) -> None:
        self.closed = self.aborted = True
        self.seen.append((self.number, "abort"))

    def pause_reading(self) -> None:
        super().pause_reading()
        self.seen.append((self.number, "pause"))

    def resume_reading(self) -> None:
        super().resume_reading()
        self.seen.append((self.number, "resume"))


class _Call:
    """The application: does what the path says, and notes what it is told."""

    def __init__(self, exchange: Exchange, link: "_Link") -> None:
        self.exchange, self.link = exchange, link
        self.body = b""
        self.complete = False
        count = link.counts[exchange.path] = link.counts.get(exchange.path, 0) + 1
        self.letter = letter = exchange.path[1:2] if count < 3 else exchange.path[2:3]
        self.status = STATUSES[exchange.path[-1] % 10]
        self.told = (
            exchange.method,
            exchange.target,
            exchange.headers,
            exchange.http_version,
            exchange.content_length,
        )
        link.calls.append(self)
        rest = (exchange.path, exchange.query, exchange.keep_alive, exchange.chunked)
        offered = (exchange.expects_continue, exchange.upgrade, exchange.peer)
        self.note("call", *self.told, *rest, *offered)
        if exchange.prepared is not None:
            link.server.hits += 1
            if exchange.prepared != self.told:
                self.note("plan of another head", exchange.prepared)
        elif exchange.seen_before and letter != b"n":
            exchange.prepared = self.told
        self.begin()

    def begin(self) -> None:
        exchange = self.exchange
        match self.letter:
            case b"h":
                self.respond(b"early")
            case b"s":
                exchange.start_response(self.status, b"", None)
            case b"c":
                exchange.close_after()
            case b"p":
                exchange.pause_reading()
            case b"a":
                exchange.abort()
            case b"x":
                raise RuntimeError("at the head")
            case b"o" | b"e":
                exchange.send_continue()

    def note(self, what: str, *details: object) -> None:
        self.link.seen.append((self.link.number, what, *details))

    def respond(self, body: bytes) -> None:
        self.exchange.respond(self.status, b"", body)

    def body_received(self, data: bytes) -> None:
        self.body += data
        self.note("body", data)
        match self.letter:
            case b"b":
                self.respond(data)
            case b"s":
                self.exchange.write(data)
            case b"y":
                raise RuntimeError("at a piece")

    def body_complete(self) -> None:
        self.complete = True
        self.note("complete")
        match self.letter:
            case b"e" | b"n" | b"o" | b"c" | b"p" | b"b":
                self.respond(self.exchange.path + self.body)
            case b"s":
                self.exchange.end()
            case b"t" | b"k":
                self.exchange.start_response(self.status, b"date: now\r\n", 4)
            case b"z":
                raise RuntimeError("at the end")

    def late(self) -> None:
        """What is left to do, one thing at a time."""
        exchange = self.exchange
        match self.letter:
            case b"l" | b"q" | b"m" if self.complete or self.letter == b"q":
                if self.letter == b"m":
                    exchange.close_after()
                self.respond(b"late" + self.body)
            case b"p":
                exchange.resume_reading()
            case b"t" if self.complete:
                exchange.write(b"ab")
                exchange.end(b"cd")
            case b"k" if self.complete:
                exchange.abort()

    def client_gone(self) -> None:
        self.note("gone")

    def writing_paused(self) -> None:
        self.note("writing paused")

    def writing_resumed(self) -> None:
        self.note("writing resumed")


class _Link:
    """One connection of a server."""

    def __init__(self, number: int, server: "_Server", head_cache: HeadCache | None) -> None:
        self.number, self.server = number, server
        self.seen, self.counts = server.seen, server.counts
        self.calls: list[_Call] = []
        self.sent: list[Request] = []
        self.unread = b""
        self.lost = self.full = False
        self.now = 0.0
        self.protocol = ServerConnection(self.application, LIMITS, set(), head_cache)
        self.transport = _Wire(number, self.seen)
        self.protocol.connection_made(self.transport)

    def application(self, exchange: Exchange) -> _Call:
        return _Call(exchange, self)

    def read(self, data: bytes) -> None:
        """Let `data` come, as a loop would bring it."""
        self.unread += data
        while self.unread and not (self.transport.closed or self.lost):
            if not self.transport.is_reading():
                return
            place = self.transport.protocol
            if isinstance(place, BoundedReads):
                buffer = place.get_buffer(-1)
                size = min(len(buffer), len(self.unread))
                buffer[:size], self.unread = self.unread[:size], self.unread[size:]
                place.buffer_updated(size)
            else:
                data, self.unread = self.unread, b""
                self.protocol.data_received(data)

    def act(self, what: str) -> None:
        if self.lost:
            return
        match what:
            case "late":
                if self.calls and not self.calls[-1].exchange.done:
                    self.calls[-1].late()
            case "full" | "empty":
                if self.full == (what == "empty"):
                    self.full = not self.full
                    (self.protocol.pause_writing if self.full else self.protocol.resume_writing)()
            case "drain":
                self.protocol.drain()
            case "eof":
                self.protocol.eof_received()
                self.lose(None)
            case "lost":
                self.lose(ConnectionResetError())
            case "sweep":
                self.now += 90
                self.protocol.sweep(self.now)
        self.read(b"")

    def lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)


class _Server:
    """A server's connections, and all that was seen of them."""

    def __init__(self, head_cache: HeadCache | None) -> None:
        self._head_cache = head_cache
        self.seen: list[Seen] = []
        # Calls by path: an application that changes its mind is the harder one.
        self.counts: dict[bytes, int] = {}
        self.hits = 0
        self.links: list[_Link] = []
        self._current: dict[int, _Link] = {}

    def begin(self, each: RequestRound) -> None:
        """Open the connection of a round, unless it stands."""
        link = self._current.get(each.connection)
        if link is None or link.lost or link.transport.closed or link.transport.eof:
            if link is not None:
                link.lose(None)
            link = _Link(len(self.links), self, self._head_cache)
            self._current[each.connection] = link
            self.links.append(link)
        link.sent += each.messages

    def take(self, connection: int, read: Read) -> None:
        link = self._current[connection]
        try:
            link.read(read.data)
            if read.then:
                link.act(read.then)
        except Exception as error:  # noqa: BLE001 - nothing may be raised into the loop: it is seen
            self.seen.append((link.number, "raised", repr(error)))

    def end(self) -> None:
        """Let what is under way come to its end."""
        for link in self._current.values():
            for what in ("empty", "late", "late"):
                if link.full or (link.calls and not link.calls[-1].exchange.done):
                    link.act(what)

    def fault(self) -> str | None:
        """Where the application was told of anything that was not sent."""
        if any(each[1] in {"raised", "plan of another head"} for each in self.seen):
            return f"wrong: {self.seen}"
        for link in self.links:
            for at, call in enumerate(link.calls):
                request = link.sent[at] if at < len(link.sent) else None
                if request is not None and request.told is None:
                    break
                if request is None or call.told != request.told or not _whole(call, request):
                    return f"sent: {request}\ntold: {call.told} {call.body!r}"
        return None


def _whole(call: _Call, request: Request) -> bool:
    return request.body == call.body if call.complete else request.body.startswith(call.body)


async def play(case: Sequence[RequestRound]) -> Outcome:
    """Whether a server with its head cache does the same as one without."""
    ours, plain = servers = _Server(HeadCache()), _Server(None)
    for each in case:
        for server in servers:
            server.begin(each)
        for read in each.reads:
            for server in servers:
                server.take(each.connection, read)
            if read.then == "turn":
                await asyncio.sleep(0)
    for server in servers:
        server.end()
    await asyncio.sleep(0)
    for server in servers:
        server.end()
    for server in servers:
        for link in server.links:
            link.lose(None)
    return Outcome(difference(ours.seen, plain.seen) or ours.fault(), ours.hits)


PROPERTY = Property(make, play, __name__)
