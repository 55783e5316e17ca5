"""Heads as they are passed on: a client's request to a replica, a replica's answer to the client.

Both are rebuilt from what was parsed, never spliced from raw bytes. What is for one connection
only (RFC 9110 section 7.6.1), and what `connection` names, stays behind.
"""

import os
from collections.abc import Mapping
from typing import Final

from gateway.proxy.routes import Route
from sluice.http1.exchange import Exchange
from sluice.http1.wire import HOP_BY_HOP
from sluice.version import installed_version

VERSION: Final = installed_version()
Headers = list[tuple[bytes, bytes]]

# Names that take more than a copy; `expect` is answered by the gateway.
REQUEST_NAMES: Final = HOP_BY_HOP | {
    b"expect",
    b"host",
    b"user-agent",
    b"x-call-id",
    b"x-forwarded-for",
    b"x-forwarded-host",
}
# Who sends these says whence the call comes, or who it is.
NEVER_PREPARED: Final = frozenset({b"x-call-id", b"x-forwarded-for", b"x-forwarded-host"})
# The server frames the answer and the gateway times it.
RESPONSE_NAMES: Final = HOP_BY_HOP | {b"content-length", b"content-type", b"x-duration-seconds"}
# Values of `connection` that name no header which is not left out anyway.
USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b"Keep-Alive"})
USER_AGENT: Final = f"sluice-gateway/{VERSION}".encode()
SERVED_BY: Final = f"x-served-by: sluice/{VERSION}\r\n".encode()
# Of each text of the gateway's own: a client may tell it from a function's answer of that status.
TEXT_TYPE: Final = b"content-type: text/plain; charset=utf-8\r\nx-openfaas-internal: proxy\r\n"
IDS_AT_ONCE: Final = 128

# Whence calls come, rendered: one line set per client connection and host.
KNOWN_ORIGINS: Final = 1024
LONGEST_KNOWN_HOST: Final = 256

_ids: list[bytes] = []
_origins: dict[tuple[str, bytes], bytes] = {}


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


def request_line(target: bytes) -> bytes:
    """What follows the method in the first line, for `request_head`."""
    return b" %b HTTP/1.1\r\n" % target


class PreparedRequest:
    """What a client's head alone decides of a call: its route and most of what the replica is sent.

    generation: of the routes it was made from. lines: from the method to the client's last header.
    host: as sent; with the connection's peer it makes the lines that say whence the call comes.
    """

    __slots__ = ("generation", "host", "lines", "route")

    def __init__(self, generation: int, route: Route, lines: bytes, host: bytes) -> None:
        self.generation, self.route = generation, route
        self.lines, self.host = lines, host


def prepared_head(prepared: PreparedRequest, peer: str, start_time: int) -> tuple[bytes, bytes]:
    """What `request_head` returns, for a head that came before."""
    origin = _origins.get((peer, prepared.host)) or _origin({b"host": prepared.host}, peer)
    own = b"x-call-id: %b\r\nx-start-time: %d\r\n" % (_ids.pop() if _ids else call_id(), start_time)
    return b"%b%b%b\r\n" % (prepared.lines, origin, own), own


def prepare_request(
    exchange: Exchange, line: bytes, route: Route, generation: int
) -> PreparedRequest | None:
    """The plan of a call like this one; None where its head says by itself who it is or whence."""
    lines, given = _client_lines(exchange, line)
    if exchange.chunked or not NEVER_PREPARED.isdisjoint(given):
        return None
    return PreparedRequest(generation, route, b"".join(lines), given.get(b"host", b""))


def request_head(exchange: Exchange, line: bytes, start_time: int) -> tuple[bytes, bytes]:
    """The head that goes to the replica, and the lines with which the answer names the call.

    line: of `request_line`. start_time: nanoseconds since the epoch. The answer repeats the call
    id only when the caller sent none.
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
    """The lines that are the client's own, and its headers of REQUEST_NAMES."""
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
        kept = _without_named(exchange.headers, given[b"connection"])
        if len(kept) < len(exchange.headers):
            exchange.headers = kept
            return _client_lines(exchange, line)
    lines.append(b"user-agent: %b\r\n" % given.get(b"user-agent", USER_AGENT))
    return lines, given


def _origin(given: Mapping[bytes, bytes], peer: str) -> bytes:
    """The lines that say whence the call came: the caller's own where it sent some."""
    host = given.get(b"host", b"")
    if b"x-forwarded-for" in given or b"x-forwarded-host" in given:
        forwarded_for = given.get(b"x-forwarded-for") or _forwarded_for(peer)
        return _render_origin(host, forwarded_for, given.get(b"x-forwarded-host", host))
    lines = _origins.get((peer, host))
    if lines is None:
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


def response_lines(
    headers: Headers, call_lines: bytes, seconds: float, asked: Headers | None
) -> bytes:
    """The header lines of an answer, without framing.

    call_lines: of `request_head`. seconds: from the request's head to the answer's. asked: the
    request's headers, of which an answer with a body but no type takes its type; None without.
    """
    lines, typed = _function_lines(headers)
    if asked is not None and not typed:
        lines.append(b"content-type: %b\r\n" % _type_of(asked))
    return b"%bx-duration-seconds: %.6f\r\n%b" % (call_lines, seconds, b"".join(lines))


def prepare_response(headers: Headers) -> bytes:
    """What `planned_lines` needs of an answer's headers; empty where the request has a say, too."""
    lines, typed = _function_lines(headers)
    return b"".join(lines) if typed else b""


def prepared_lines(prepared: bytes, call_lines: bytes, seconds: float) -> bytes:
    """What `answer_lines` returns, for an answer whose head came before."""
    return b"%bx-duration-seconds: %.6f\r\n%b" % (call_lines, seconds, prepared)


def _function_lines(headers: Headers) -> tuple[list[bytes], bool]:
    """The lines that the headers of an answer alone decide, and whether its type is among them."""
    lines = [SERVED_BY]
    typed = False
    for header in headers:
        name = header[0]
        if name not in RESPONSE_NAMES:
            lines.append(b"%b: %b\r\n" % header)
        elif name == b"content-type":
            typed = True
            lines.append(b"%b: %b\r\n" % header)
        elif name == b"connection":
            kept = _without_named(headers, header[1])
            if len(kept) < len(headers):
                return _function_lines(kept)
    return lines, typed


def refusal_lines(call_lines: bytes, seconds: float) -> bytes:
    """The header lines of a plain text that the gateway answers by itself."""
    return b"%b%b%bx-duration-seconds: %.6f\r\n" % (TEXT_TYPE, call_lines, SERVED_BY, seconds)


def without(headers: Headers, names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers but those of the names given."""
    return [pair for pair in headers if pair[0] not in names]


def _type_of(headers: Headers) -> bytes:
    return next((value for name, value in headers if name == b"content-type"), b"text/plain")


def _without_named(headers: Headers, connection: bytes) -> Headers:
    """The headers without those `connection` lists, unless they frame or are left out anyway."""
    if connection in USUAL_CONNECTION:
        return headers
    names = {name.strip(b" \t").lower() for name in connection.split(b",")}
    return without(headers, frozenset(names - REQUEST_NAMES - {b"content-length"}))
