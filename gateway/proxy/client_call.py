"""A call whose request comes from a client's exchange and whose response goes back to it.

A small request is read whole before a slot is asked for, so that slow senders hold none, and is
sent with its head in one write. Any other is streamed on a new connection: until there is one it
waits, unread, in its client's socket. Either side that cannot keep up pauses the other.
"""

import os
import time
from collections.abc import Mapping
from typing import Final

from gateway.proxy.call import (
    FINISHED,
    RESPONSE_SENT,
    RESPONSE_STARTED,
    SENT_ON_KEPT,
    Call,
    CallContext,
)
from gateway.proxy.headers import (
    REQUEST_NAMES,
    USER_AGENT,
    prepare_response,
    prepared_lines,
    refusal_lines,
    response_lines,
    without_named,
)
from gateway.proxy.routes import ReplicaConcurrency, Route
from gateway.types.errors import SluiceError
from sluice.http1.client import ClientConnection
from sluice.http1.exchange import Exchange
from sluice.http1.response_cache import KnownResponse
from sluice.http1.wire import LAST_CHUNK, chunk

# Read whole up to here; of-watchdog and nginx buffer about as much.
SMALL_BODY: Final = 64 * 1024
# What a replica that reads nothing lets us send: the kernel's buffer (208 KiB), our own up to its
# high mark (64 KiB), and what was read when it was reached (64 KiB).
REPLAY_BYTES: Final = 384 * 1024

# Headers that identify the call or its origin: a request with one of them is never prepared.
NEVER_PREPARED: Final = frozenset({b"x-call-id", b"x-forwarded-for", b"x-forwarded-host"})
IDS_AT_ONCE: Final = 128
KNOWN_ORIGINS: Final = 1024
LONGEST_KNOWN_HOST: Final = 256

# Ids for the next calls. Taken from in place where one call more counts.
_ids: Final[list[bytes]] = []
# (peer, host) -> the lines that name the origin of a call: a set per client connection and host.
_origins: Final[dict[tuple[str, bytes], bytes]] = {}


class PreparedRequest:
    """What a client's head alone determines: the route and most of what the replica is sent.

    generation: of the routes it was made from. lines: from the method to the client's last header.
    host: as sent; with the connection's peer it determines the lines of the origin.
    """

    __slots__ = ("generation", "host", "lines", "route")

    def __init__(self, generation: int, route: Route, lines: bytes, host: bytes) -> None:
        self.generation, self.route = generation, route
        self.lines, self.host = lines, host


def prepare_request(
    exchange: Exchange, line: bytes, route: Route, generation: int
) -> PreparedRequest | None:
    """What calls with this head have in common; None where it names the call or its origin."""
    lines, given = _client_lines(exchange, line)
    if exchange.chunked or not NEVER_PREPARED.isdisjoint(given):
        return None
    return PreparedRequest(generation, route, b"".join(lines), given.get(b"host", b""))


class ClientCall(Call):
    """The Receiver of the exchange.

    line: the request's first line without its method, of `request_line`. prepared: what was
    derived from the same head before; `line` is not used then.
    """

    body: bytes = b""
    status: int = 0
    headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 - replaced by the response's, never changed
    length: int | None = None
    response: bytes = b""

    def __init__(
        self,
        context: CallContext,
        exchange: Exchange,
        route: Route,
        line: bytes,
        prepared: PreparedRequest | None = None,
    ) -> None:
        # Call.__init__ in place: 2 to 3 % of a call less on bench/pythonpath.py.
        self.context = context
        self.route = route
        self.started = time.monotonic()
        route.metrics.started += 1
        context.calls.add(self)
        self.exchange = exchange
        self.method = exchange.method
        if prepared is None:
            self.head, self.call_lines = request_head(exchange, line, time.time_ns())
        else:
            # `request_head` for a head that came before, with look-ups in place of calls: 3 % of a
            # call less on bench/pythonpath.py.
            peer, host = exchange.peer, prepared.host
            origin = _origins.get((peer, host)) or _origin_lines(host, peer)
            identity = _ids.pop() if _ids else call_id()
            own = b"x-call-id: %b\r\nx-start-time: %d\r\n" % (identity, time.time_ns())
            self.head, self.call_lines = b"%b%b%b\r\n" % (prepared.lines, origin, own), own
        if exchange.expects_continue:
            self._ask_for_body()

    # The request, read whole.

    def body_received(self, data: bytes) -> None:
        self.body = self.body + data if self.body else data

    def body_complete(self) -> None:
        # `start`, `slot_granted` and `send` in place, for the usual case of a free slot and a kept
        # connection: 2 % of a call less on bench/pythonpath.py.
        now = time.monotonic()
        context, route = self.context, self.route
        try:
            slots = context.activator.reserve(route, self, now)
        except SluiceError as error:
            self.fail(error, now)
            return
        if slots is None:
            return
        connection = context.connection_pool.take(slots.replica.id)
        if connection is None:
            self.slot_granted(slots, now)
            return
        self.slots = slots
        self.deadline = now + (route.timeout or context.call_seconds)
        self.phase = SENT_ON_KEPT
        self.connection = connection
        connection.send(self.head + self.body, self, self.method == "HEAD")

    def send(self, connection: ClientConnection) -> None:
        connection.send(self.head + self.body, self, self.method == "HEAD")

    def sending_paused(self) -> None:
        """A request sent in one write has nothing to hold back."""

    def sending_resumed(self) -> None:
        """See `sending_paused`."""

    # The response.

    def response_started(
        self, status: int, _reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        if self.phase is FINISHED:
            return
        self.phase = RESPONSE_STARTED
        self.status, self.headers, self.length = status, headers, length
        if length is None and self.method != "HEAD":
            # It may be a stream whose first event is far away: its head must not wait for it.
            self._send_head()

    def response_body(self, data: bytes) -> None:
        if self.phase is FINISHED:
            return
        if self.phase is RESPONSE_STARTED:
            if len(data) == self.length:
                self.response = data
                return
            self._send_head()
        if self.connection is not None and self.connection.all_received:
            self.response = data  # its end is known: both go in one write
        else:
            self.exchange.write(data)

    def response_complete(self, reusable: bool) -> None:
        phase = self.phase
        if phase is FINISHED:
            return
        now = time.monotonic()
        exchange, status = self.exchange, self.status
        known = None if self.connection is None else self.connection.known
        self.complete(status, reusable, now)
        if phase is RESPONSE_SENT:
            exchange.end(self.response)
        elif self.method == "HEAD":
            exchange.start_response(status, self._head_lines(), self.length)
            exchange.end()
        else:
            exchange.respond(status, self._lines(known, now - self.started), self.response)

    def _lines(self, known: KnownResponse | None, seconds: float) -> bytes:
        """The header lines of a complete response; known: its head, when that came before."""
        if known is not None:
            prepared = known.prepared
            if prepared is None:
                prepared = known.prepared = prepare_response(self.headers)
            if isinstance(prepared, bytes) and prepared:
                return prepared_lines(prepared, self.call_lines, seconds)
        asked = self.exchange.headers if self.response else None
        return response_lines(self.headers, self.call_lines, seconds, asked)

    def _head_lines(self) -> bytes:
        """The header lines of a response whose body comes later or not at all."""
        asked = None if self.length == 0 else self.exchange.headers
        seconds = time.monotonic() - self.started
        return response_lines(self.headers, self.call_lines, seconds, asked)

    def _send_head(self) -> None:
        self.phase = RESPONSE_SENT
        self.exchange.start_response(self.status, self._head_lines(), self.length)

    def refuse(self, status: int, error: SluiceError) -> None:
        self._respond(status, f"{error}\n")

    def _respond(self, status: int, text: str) -> None:
        lines = refusal_lines(self.call_lines, time.monotonic() - self.started)
        self.exchange.respond(status, lines, text.encode())

    def break_off(self) -> None:
        self.exchange.abort()

    def writing_paused(self) -> None:
        if self.connection is not None:
            self.connection.pause_reading()

    def writing_resumed(self) -> None:
        if self.connection is not None:
            self.connection.resume_reading()

    def _ask_for_body(self) -> None:
        self.exchange.send_continue()


class StreamedCall(ClientCall):
    """A request that is passed on while it is read, on a new connection.

    body_limit: bytes; a longer body gets 413.
    """

    def __init__(
        self, context: CallContext, exchange: Exchange, route: Route, line: bytes, body_limit: int
    ) -> None:
        super().__init__(context, exchange, route, line)
        self.body_limit = body_limit
        self.received = 0
        # whole: all of the body came. held_up: the replica reads slower than the client sends.
        self.whole = self.held_up = False
        # All of the body so far, framed, until it is more than can be sent again; then nothing.
        self.kept: list[bytes] | None = []
        exchange.pause_reading()
        self.start(self.started)

    def slot_granted(self, slots: ReplicaConcurrency, now: float) -> None:
        self.slots = slots
        self.deadline = now + (self.route.timeout or self.context.call_seconds)
        self._connect(slots)

    def send(self, connection: ClientConnection) -> None:
        self.held_up = False
        data = b"".join((self.head, *(self.kept or ())))
        connection.send(data, self, self.method == "HEAD", more=not self.whole)
        self.exchange.send_continue()
        # What is sent again may be more than the connection takes at once.
        if not self.held_up:
            self.exchange.resume_reading()

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        if self.phase is not FINISHED:
            self.exchange.pause_reading()
        super().response_failed(error, nothing_sent)

    def can_repeat(self, slots: ReplicaConcurrency, *, unread: bool) -> bool:
        # A replica that drains closes only what it has not begun to read; one that died may have
        # begun with what it had read.
        return unread and not slots.ready and self.kept is not None

    def body_received(self, data: bytes) -> None:
        if self.phase is FINISHED:
            return
        self.received += len(data)
        if self.received > self.body_limit:
            self._refuse_body()
            return
        self._pass_on(chunk(data) if self.exchange.chunked else data)

    def body_complete(self) -> None:
        self.whole = True
        if self.phase is FINISHED:
            return
        if self.exchange.chunked:
            self._pass_on(LAST_CHUNK)
        if self.connection is not None:
            self.connection.finish()

    def sending_paused(self) -> None:
        self.held_up = True
        self.exchange.pause_reading()

    def sending_resumed(self) -> None:
        self.held_up = False
        self.exchange.resume_reading()

    def _ask_for_body(self) -> None:
        """Not yet: `send` asks, once there is a replica that takes it."""

    def _pass_on(self, data: bytes) -> None:
        if self.kept is not None:
            self.kept.append(data)
        if self.connection is not None:
            self.connection.write(data)
            if self.received > REPLAY_BYTES:
                self.kept = None

    def _refuse_body(self) -> None:
        phase = self.phase
        self._finish(413, time.monotonic())
        if phase is RESPONSE_SENT:
            self.exchange.abort()
        else:
            self._respond(413, f"{self.route.name}: body over {self.body_limit} bytes\n")


def is_small(exchange: Exchange) -> bool:
    """Whether the request is read whole before it asks for a slot."""
    if exchange.chunked:
        return False
    return exchange.content_length is None or exchange.content_length <= SMALL_BODY


def request_line(target: bytes) -> bytes:
    """What follows the method in the first line, for `request_head`."""
    return b" %b HTTP/1.1\r\n" % target


def request_head(exchange: Exchange, line: bytes, start_time: int) -> tuple[bytes, bytes]:
    """The head for the replica, and the lines with which the response identifies the call.

    line: of `request_line`. start_time: nanoseconds since the epoch. The response repeats the
    call id only when the caller sent none.
    """
    lines, given = _client_lines(exchange, line)
    if exchange.chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(_origin(given, exchange.peer))
    identity = given.get(b"x-call-id")
    if identity:
        own = b"x-start-time: %d\r\n" % start_time
        lines.append(b"x-call-id: %b\r\n" % identity)
    else:
        own = b"x-call-id: %b\r\nx-start-time: %d\r\n" % (call_id(), start_time)
    lines.append(own)
    lines.append(b"\r\n")
    return b"".join(lines), own


def _client_lines(exchange: Exchange, line: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The lines of the client's own headers, and its headers of REQUEST_NAMES."""
    lines = [exchange.method.encode(), line]
    given: dict[bytes, bytes] = {}
    for header in exchange.headers:
        name = header[0]
        if name not in REQUEST_NAMES:
            lines.append(b"%b: %b\r\n" % header)
        elif name in given:
            given[name] += b", " + header[1]
        else:
            given[name] = header[1]
    if b"connection" in given:
        kept = without_named(exchange.headers, given[b"connection"])
        if len(kept) < len(exchange.headers):
            exchange.headers = kept
            return _client_lines(exchange, line)
    lines.append(b"user-agent: %b\r\n" % given.get(b"user-agent", USER_AGENT))
    return lines, given


def _origin(given: Mapping[bytes, bytes], peer: str) -> bytes:
    """The lines with the call's origin: the caller's own values where it sent some."""
    host = given.get(b"host", b"")
    if b"x-forwarded-for" in given or b"x-forwarded-host" in given:
        forwarded_for = given.get(b"x-forwarded-for") or _forwarded_for(peer)
        return _render_origin(host, forwarded_for, given.get(b"x-forwarded-host", host))
    return _origins.get((peer, host)) or _origin_lines(host, peer)


def _origin_lines(host: bytes, peer: str) -> bytes:
    """The lines with the origin of a call that was not forwarded before; kept in _origins."""
    lines = _render_origin(host, _forwarded_for(peer), host)
    if len(_origins) >= KNOWN_ORIGINS:
        _origins.clear()
    if len(host) <= LONGEST_KNOWN_HOST:
        _origins[peer, host] = lines
    return lines


def _render_origin(host: bytes, forwarded_for: bytes, forwarded_host: bytes) -> bytes:
    lines = b"host: %b\r\n" % host
    if forwarded_host:
        lines += b"x-forwarded-host: %b\r\n" % forwarded_host
    if forwarded_for:
        lines += b"x-forwarded-for: %b\r\n" % forwarded_for
    return lines


def _forwarded_for(peer: str) -> bytes:
    """The peer's ip:port; nothing for a client on a Unix socket."""
    return peer.encode() if ":" in peer else b""


def call_id() -> bytes:
    """A random UUID of version 4.

    128 at a time share all but their last 48 bits: 40x faster than uuid4.
    """
    if not _ids:
        digits = os.urandom(16 + 6 * IDS_AT_ONCE).hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        head = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-"
        tails = (digits[at : at + 12] for at in range(32, len(digits), 12))
        _ids.extend([f"{head}{tail}".encode() for tail in tails])
    return _ids.pop()
