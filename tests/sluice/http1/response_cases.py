"""Responses as they may come, to connections with the cache of heads and to ones without it.

A case has two connections at a time. What the listener of a round does:

    keep   nothing              chain  send the next request at the end
    raise_at_head, raise_at_body       raise
    abort_at_head, abort_at_body       cut the connection
    pause                       pause reading at the head, go on when asked
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sluice.http1.client import ClientConnection
from sluice.http1.errors import Http1Error
from sluice.http1.response_cache import ResponseCache
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

LISTENERS = (
    *("keep", "keep", "keep", "keep", "keep", "keep", "chain", "chain", "pause"),
    *("raise_at_head", "raise_at_body", "abort_at_head", "abort_at_body"),
)
QUIET = ("",)
THEN = ("", "", "", "", "", "resume", "resume", "finish", "write", "turn", "lost", "reset", "full")
TOKENS = (b"\r\n", b"\0", b" ", b":", b".", b"0", b"content-length: 7\r\n", b"HTTP/1.1 ")
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
STATUSES = (*[(200, b"OK")] * 4, (404, b""), (404, b""), (204, b"Gone"), (304, b""))
# Stands where each round puts a time of its own.
TIME = b"T.TTTTTT"
TIMES = (b"0.000123", b"9.876543", b"0.000001")
ODD_TIMES = (*[TIME] * 8, b"12.000123", b"0x000123", b"1.0", b"")
TIME_NAMES = (
    *[b"x-duration-seconds: "] * 6,
    *(b"X-Duration-Seconds: ", b"x-duration-seconds:", b"x-duration-seconds:  "),
)
CHUNKED = [b"transfer-encoding: chunked"]
LONG = b"x-long: " + b"y" * 2100
LINES = (b"date: today", b"x-y: 1", b"X-Y: 1", b"content-type: text/x", b"connection: keep-alive")


@dataclass(frozen=True, slots=True)
class Response:
    """wire: its bytes. told: status, reason, headers and length as a listener must hear them; None:
    not known.
    """

    wire: bytes
    told: tuple[int, bytes, list[tuple[bytes, bytes]], int | None] | None
    body: bytes
    declared: int | None

    def at(self, time: bytes) -> "Response":
        """The same response, another time."""
        told = self.told
        if told is not None:
            headers = [(name, value.replace(TIME, time)) for name, value in told[2]]
            told = told[0], told[1], headers, told[3]
        wire, body = self.wire.replace(TIME, time), self.body.replace(TIME, time)
        return Response(wire, told, body, self.declared)


@dataclass(frozen=True, slots=True)
class ResponseRound(Round):
    """A request and what comes for it. more: its body is sent later. asked: it is sent at all."""

    messages: tuple[Response, ...]
    listener: str = "keep"
    head_only: bool = False
    more: bool = False
    asked: bool = True


def make(seed: int) -> tuple[ResponseRound, ...]:
    """A case: a few responses, and a few ways in which they come again and again."""
    chance = Random(seed)
    pool: list[Response] = []
    for _ in range(chance.randint(1, 3)):
        pool.append(_response(chance, pool))
    case: list[ResponseRound] = []
    for _ in range(chance.randint(1, 2)):
        responses = tuple(chance.choices(pool, k=chance.choice((1, 1, 1, 1, 1, 2))))
        then = chance.choice((QUIET, QUIET, THEN))
        lengths = [response.declared for response in responses if response.declared]
        places: list[int] | None = None
        for _ in range(chance.randint(2, 5)):
            now = tuple([response.at(chance.choice(TIMES)) for response in responses])
            wires = [response.wire for response in now]
            if places is None or chance.random() < 0.2:
                places = cuts(chance, wires, lengths)
            case.append(_round(chance, reads(chance, wires, places, then), now))
    return tuple(case)


def _round(chance: Random, parts: tuple[Read, ...], now: tuple[Response, ...]) -> ResponseRound:
    connection = chance.choice((0, 0, 0, 1))
    if chance.random() < 0.7:
        return ResponseRound(connection, parts, now)
    rare = chance.random()
    listener = chance.choice(LISTENERS)
    return ResponseRound(connection, parts, now, listener, rare < 0.1, rare > 0.85, rare < 0.97)


def _response(chance: Random, pool: Sequence[Response]) -> Response:
    status, reason = chance.choice(STATUSES)
    version = b"1.0" if chance.random() < 0.05 else b"1.1"
    body, length, framing = _framing(chance, pool, version)
    lines = [*_lines(chance), *framing]
    chance.shuffle(lines)
    if status in {204, 304}:
        body = b""
    headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(b":") for line in lines)]
    told = status, reason, headers, 0 if length is None and status in {204, 304} else length
    sent = _chunked(chance, body) if framing == CHUNKED else body
    wire = b"\r\n".join([b"HTTP/%b %d %b" % (version, status, reason), *lines, b"", sent])
    wrong = chance.random()
    if wrong < 0.08:
        return Response(damaged(chance, wire, TOKENS), None, body, length)
    if wrong < 0.16:
        wire = chance.choice((b"\r\n", b"\r\n\r\n")) + wire
    elif wrong < 0.24:
        wire = b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n" + wire
    return Response(wire, told, body, length)


def _lines(chance: Random) -> list[bytes]:
    """Header lines but for those that frame: times among them, one mostly."""
    lines = chance.sample(LINES, chance.randint(0, 2))
    for _ in range(chance.choice((0, 1, 1, 1, 1, 2))):
        lines.append(chance.choice(TIME_NAMES) + chance.choice(ODD_TIMES))
    kind = chance.random()
    if kind < 0.02:
        lines.append(LONG)
    elif kind < 0.07:
        lines.append(b"connection: close")
    return lines


def _framing(
    chance: Random, pool: Sequence[Response], version: bytes
) -> tuple[bytes, int | None, list[bytes]]:
    """A body, the length that is declared for it, and the header line that does."""
    kind = chance.random()
    if kind < 0.1:
        return b"", None, []
    body = _body(chance, pool)
    if kind < 0.2 and version == b"1.1":
        return body.replace(TIME, TIMES[0]), None, CHUNKED  # else a cut through it
    if kind < 0.25:
        return body, None, []
    return body, len(body), [b"content-length: %d" % len(body)]


def _body(chance: Random, pool: Sequence[Response]) -> bytes:
    """Small mostly; or another response, that must never be taken for one."""
    kind = chance.random()
    if kind < 0.4:
        return b"x" * chance.randint(0, 9)
    if kind < 0.8 and pool:
        return chance.choice(pool).wire
    return b"y" * chance.randint(10, 300)


def _chunked(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    pieces = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part]
    return b"".join(pieces) + chance.choice((b"0\r\n\r\n", b"0\r\nlate: 1\r\n\r\n"))


class _Wire(FakeTransport):
    """Notes what is asked of it."""

    def __init__(self, number: int, seen: list[Seen]) -> None:
        super().__init__()
        self.number, self.seen = number, seen

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append((self.number, "write", bytes(data)))

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


class _Listener:
    """Notes what it is told, and does what its round says."""

    def __init__(self, link: "_Link", does: str, response: Response | None) -> None:
        self.link, self.does, self.response = link, does, response
        self.connection = link.connection
        self.told: tuple[object, ...] | None = None
        self.body = b""
        self.last = False

    def note(self, what: str, *details: object) -> None:
        self.link.seen.append((self.link.number, what, *details))

    def response_started(
        self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        self.told = status, reason, headers, length
        self.link.client.hits += self.connection.known is not None
        self.note("started", *self.told, self.connection.all_received)
        match self.does:
            case "raise_at_head":
                raise LookupError("at the head")
            case "abort_at_head":
                self.connection.abort()
            case "pause":
                self.connection.pause_reading()

    def response_body(self, data: bytes) -> None:
        self.note("body", data)
        if self.last:
            self.note("wrong: a piece behind the last")
        self.last = self.connection.all_received
        self.body += data
        match self.does:
            case "raise_at_body":
                raise LookupError("at a piece")
            case "abort_at_body":
                self.connection.abort()

    def response_complete(self, reusable: bool) -> None:
        self.note("complete", reusable)
        response = self.response
        if response is not None and response.told is not None:
            body = b"" if self.link.head_only else response.body
            # A body without a length may be cut where the connection was lost.
            whole = response.declared is not None or reusable
            same = self.body == body if whole else body.startswith(self.body)
            if self.told != response.told or not same:
                self.note("wrong: not what was sent", response)
        if self.does == "chain" and reusable:
            self.link.ask(_Listener(self.link, "keep", None), False, False)

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        self.note("failed", type(error), str(error), nothing_sent)
        if not isinstance(error, Http1Error | LookupError):
            self.note("wrong: our own error")

    def sending_paused(self) -> None:
        self.note("sending paused")

    def sending_resumed(self) -> None:
        self.note("sending resumed")


class _Link:
    """One connection of a client."""

    def __init__(self, number: int, client: "_Client", head_cache: ResponseCache | None) -> None:
        self.number, self.client, self.seen = number, client, client.seen
        self.unread = b""
        self.lost = self.full = self.head_only = False
        # Whether what comes is what was asked for: no piece of an earlier response is left.
        self.in_step = True
        self.connection = ClientConnection(head_cache)
        self.transport = _Wire(number, self.seen)
        self.connection.connection_made(self.transport)

    @property
    def usable(self) -> bool:
        return self.connection.reusable and not self.lost

    def ask(self, listener: _Listener, head_only: bool, more: bool) -> None:
        self.head_only = head_only
        self.connection.send(REQUEST, listener, head_only, more)

    def read(self, data: bytes) -> None:
        """Let `data` come, as a loop would bring it."""
        self.unread += data
        while self.unread and not (self.transport.closed or self.lost):
            if not self.transport.is_reading():
                return
            data, self.unread = self.unread, b""
            self.connection.data_received(data)

    def act(self, what: str) -> None:
        if self.lost:
            return
        match what:
            case "resume":
                self.connection.resume_reading()
            case "finish":
                self.connection.finish()
            case "write":
                self.connection.write(b"more")
            case "full":
                self.full = not self.full
                connection = self.connection
                (connection.pause_writing if self.full else connection.resume_writing)()
            case "lost" if self.transport.is_reading():  # else no loop would see the end
                self.lose(None)
            case "reset":
                self.lose(ConnectionResetError("reset"))
        self.read(b"")

    def lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.connection.connection_lost(error)

    def end(self) -> None:
        """Let the peer close, once all that it sent is read."""
        self.act("resume")
        self.lose(None)


class _Client:
    """A client's connections, and all that was seen of them."""

    def __init__(self, head_cache: ResponseCache | None) -> None:
        self._head_cache = head_cache
        self.seen: list[Seen] = []
        self.hits = 0
        self._current: dict[int, _Link] = {}
        self._links: list[_Link] = []

    def begin(self, each: ResponseRound) -> None:
        """Send the request of a round, on a new connection unless the last can be used."""
        link = self._current.get(each.connection)
        if link is None or not link.usable:
            if link is not None:
                link.end()
            link = _Link(len(self._links), self, self._head_cache)
            self._current[each.connection] = link
            self._links.append(link)
        if each.asked:
            # Without a length, what comes behind is part of the body.
            alone = len(each.messages) == 1 or each.messages[0].declared is not None
            response = each.messages[0] if alone and not link.unread else None
            link.ask(_Listener(link, each.listener, response), each.head_only, each.more)

    def take(self, connection: int, read: Read) -> None:
        link = self._current[connection]
        try:
            link.read(read.data)
            if read.then:
                link.act(read.then)
        except Exception as error:  # noqa: BLE001 - nothing may be raised into the loop: it is seen
            self.seen.append((link.number, f"wrong: raised {error!r}"))

    def end(self) -> None:
        for link in self._links:
            link.end()

    def fault(self) -> str | None:
        """What was told that was not sent, or must never be."""
        wrong = [each for each in self.seen if each[1].startswith("wrong")]
        return f"{wrong} in {self.seen}" if wrong else None


async def play(case: Sequence[ResponseRound]) -> Outcome:
    """Whether connections with the cache tell the same as ones without it."""
    ours, plain = clients = _Client(ResponseCache()), _Client(None)
    for each in case:
        for client in clients:
            client.begin(each)
        for read in each.reads:
            for client in clients:
                client.take(each.connection, read)
            if read.then == "turn":
                await asyncio.sleep(0)
    for client in clients:
        client.end()
    return Outcome(difference(ours.seen, plain.seen) or ours.fault(), ours.hits)


PROPERTY = Property(make, play, __name__)
