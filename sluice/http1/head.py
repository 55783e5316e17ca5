"""The checks a request head goes through beyond the parser's own.

llhttp refuses by itself (pinned by tests): bare LF, folded lines, space before a colon, control
characters and NUL, two lengths, a length with transfer-encoding. It accepts, and this refuses:
no host on HTTP/1.1 or more than one, transfer-encoding other than `chunked` or on HTTP/1.0,
HTTP/0.9 and 2.0, RTSP's and ICE's versions of these, CONNECT, expectations other than
100-continue, too many lines. An absolute-form target wins over the host header.
"""

import re
from typing import Final

from httptools import HttpRequestParser

from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Exchange
from sluice.http1.target import reduce_absolute, split_target

# Header lines that decide more than the host and the length do.
TELLING: Final = frozenset({b"connection", b"expect", b"transfer-encoding", b"upgrade"})
AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=:%\[\]-]*")
KNOWN_HOSTS: Final = 1024
LONGEST_KNOWN_HOST: Final = 256

# Hosts found good so far: the hot path looks here first. Emptied when it is full.
HOSTS: Final[set[bytes]] = set()


def read_telling(exchange: Exchange, name: bytes, value: bytes) -> None:
    """Set on the exchange what a header of TELLING says. Raises RefusedError."""
    value = value.strip(b" \t")
    if name == b"connection":
        tokens = [token.strip(b" \t") for token in value.lower().split(b",")]
        if b"close" in tokens:
            exchange.keep_alive = False
    elif name == b"upgrade":
        exchange.upgrade = value
    elif name == b"expect":
        if value.lower() != b"100-continue":
            raise RefusedError(417, "expect: only 100-continue is understood")
        exchange.expects_continue = True
    elif value.lower() == b"chunked":
        exchange.chunked = True
    else:
        raise RefusedError(501, "transfer-encoding: only chunked is understood")


def read_version(exchange: Exchange, parser: HttpRequestParser) -> None:
    """Set version and keep-alive of a request that is not plainly HTTP/1.1. Raises RefusedError."""
    version = parser.get_http_version()
    if version not in {"1.1", "1.0"}:
        raise RefusedError(505, f"HTTP/{version}: expected HTTP/1.1 or HTTP/1.0")
    exchange.http_version = version
    if not parser.should_keep_alive():
        exchange.keep_alive = False
    if version == "1.0":
        exchange.expects_continue = False
        if exchange.chunked:
            raise RefusedError(400, "transfer-encoding is not part of HTTP/1.0")


def read_target(exchange: Exchange, raw: bytes) -> None:
    """Set target, path and query. Raises RefusedError."""
    try:
        if raw[:1] not in {b"/", b"*"}:
            raw, authority = reduce_absolute(raw)
            _replace_host(exchange, authority)
        exchange.target, exchange.path, exchange.query = split_target(raw)
    except ValueError as error:
        raise RefusedError(400, str(error)) from error
    if raw == b"*" and exchange.method != "OPTIONS":
        raise RefusedError(400, "target: * is for OPTIONS only")


def check_hosts(exchange: Exchange, hosts: int) -> None:
    """Refuse two host headers, and none on HTTP/1.1. Raises RefusedError."""
    if hosts > 1:
        raise RefusedError(400, "host: more than one")
    if hosts == 0 and exchange.http_version == "1.1":
        raise RefusedError(400, "host: missing")


def check_host(value: bytes) -> None:
    """Refuse a host that is no host[:port]. Raises RefusedError."""
    if AUTHORITY.fullmatch(value.strip(b" \t")) is None:
        raise RefusedError(400, "host: expected name or address, and a port")
    if len(value) <= LONGEST_KNOWN_HOST:
        if len(HOSTS) >= KNOWN_HOSTS:
            HOSTS.clear()
        HOSTS.add(value)


def without_upgrade(exchange: Exchange, target: bytes) -> bytes:
    """The same head without the offer to upgrade, for a parser that must read the body.

    llhttp takes all that follows an upgrade's head for the other protocol, body included.
    """
    version = exchange.http_version.encode()
    lines = [b"%b %b HTTP/%b\r\n" % (exchange.method.encode(), target, version)]
    for name, value in exchange.headers:
        if name == b"connection":
            tokens = [token.strip(b" \t") for token in value.split(b",")]
            kept = b", ".join(token for token in tokens if token.lower() != b"upgrade")
            if kept:
                lines.append(b"connection: %b\r\n" % kept)
        elif name != b"upgrade":
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines) + b"\r\n"


def _replace_host(exchange: Exchange, authority: bytes) -> None:
    check_host(authority)
    for index, (name, _) in enumerate(exchange.headers):
        if name == b"host":
            exchange.headers[index] = (name, authority)
