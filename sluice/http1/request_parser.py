"""Parses requests: bytes in, heads, pieces of bodies, ends and refusals out, by direct calls.

The parser knows nothing of order, responses or transports: those are the connection's
(sluice.http1.connection), which receives what is parsed as a `RequestListener`.

llhttp refuses by itself (pinned by tests): bare LF, folded lines, space before a colon, control
characters and NUL, two lengths, a length with transfer-encoding. It accepts, and this refuses:
no host on HTTP/1.1 or more than one, transfer-encoding other than `chunked` or on HTTP/1.0,
HTTP/0.9 and 2.0, RTSP's and ICE's versions of these, CONNECT, expectations other than
100-continue, too many lines. An absolute-form target wins over the host header.

A target is brought to one form before anything routes by it: no `/%66unction/x`, `//function/x` or
`http://host/function/x` may slip past a rule on `/function/`.
- absolute-form is reduced to origin-form (its authority replaces the host header);
- escapes of unreserved characters are decoded, all others stay (`%2F` is never a slash);
- runs of slashes in the path become one;
- refused: `.` and `..` segments, broken escapes, an escaped NUL, a fragment, anything else.
The query is left as sent.

Traps handled here:
- llhttp has no limit on heads: bytes are counted until a head is complete, exactly when the head
  comes alone, to within one slice when it comes pipelined;
- keep-alive is read at the end of the head, as later llhttp may say the opposite;
- llhttp would drop the body of a request that offers an upgrade: such a head is parsed again
  without the offer;
- trailers come as headers after the body, and are dropped;
- what a callback raises comes back as a parser error, which must not become the client's 400.
"""

import logging
import re
import sys
from typing import Final, Never, Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Exchange
from sluice.http1.limits import Limits
from sluice.http1.wire import NAMES, header_name

log = logging.getLogger(__name__)

# Headers that decide how the message is read, besides host and content-length.
FRAMING_HEADERS: Final = frozenset({b"connection", b"expect", b"transfer-encoding", b"upgrade"})
AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=:%\[\]-]*")
KNOWN_HOSTS: Final = 1024
LONGEST_KNOWN_HOST: Final = 256
# Hosts found good so far: the hot path looks here first. Emptied when it is full.
HOSTS: Final[set[bytes]] = set()

# Paths that `_normalise` would leave as they are; most are.
PLAIN: Final = re.compile(rb"(?:/[^/?#%.\x00-\x20\x7f-\xff][^/?#%\x00-\x20\x7f-\xff]*)+/?|/")
ESCAPE: Final = re.compile(rb"%(.{0,2})", re.DOTALL)
HEX_PAIR: Final = re.compile(rb"[0-9A-Fa-f]{2}")
SLASHES: Final = re.compile(rb"/{2,}")
ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)((?:[/?].*)?)", re.DOTALL | re.IGNORECASE)
UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
KNOWN_TARGETS: Final = 1024
LONGEST_KNOWN_TARGET: Final = 256
# What `split_target` found so far: the hot path looks here first. Emptied when it is full.
TARGETS: Final[dict[bytes, tuple[bytes, bytes, bytes]]] = {}


class _Methods(dict[bytes, str]):
    """Methods as text, each once."""

    def __missing__(self, method: bytes) -> str:
        if method == b"CONNECT":
            raise RefusedError(405, "CONNECT: this is no proxy")
        self[method] = text = method.decode("ascii")
        return text


# The parser knows some forty methods and refuses others, so this table is bounded.
METHODS: Final = _Methods()


class RequestListener(Protocol):
    """Receives what a `RequestParser` parses, in the order of the bytes."""

    def head_complete(self, exchange: Exchange) -> None:
        """A request's head is complete and valid; `exchange` holds what it says."""

    def body_parsed(self, data: bytes) -> None:
        """A piece of the body of that request. May call `RequestParser.stop`."""

    def message_complete(self) -> None:
        """The end of a request. Also called between requests; no head came since: ignore it."""

    def unparsed(self, data: bytes) -> None:
        """These bytes are to be fed again before all others; the last call from `feed`."""

    def refused(self, error: RefusedError) -> None:
        """Nothing more can be parsed, and why."""


class RequestParser:
    """The parser of one connection.

    in_head: whether the bytes parsed last are a part of a head. head_bytes: how many of them there
    are; at `Limits.head_bytes` the head is refused.
    """

    __slots__ = (
        "_headers",
        "_limits",
        "_listener",
        "_offered",
        "_original",
        "_parser",
        "_raised",
        "_url",
        "head_bytes",
        "in_head",
        "on_body",
        "on_message_complete",
    )

    def __init__(self, listener: RequestListener, limits: Limits) -> None:
        self._listener, self._limits = listener, limits
        # The parser's own callbacks: a method of ours in between would be one more call each.
        self.on_body = listener.body_parsed
        self.on_message_complete = listener.message_complete
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self.in_head = False
        self.head_bytes = 0
        # What a callback raised to stop the parser.
        self._raised: Exception | None = None
        # A head that offers an upgrade: kept while it is parsed again without the offer.
        self._offered: Exchange | None = None
        self._original: list[tuple[bytes, bytes]] | None = None

    def feed(self, data: bytes) -> None:
        """Parse; never raises. `data` is at most what the limit of a head leaves."""
        headers = self._headers
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except HttpParserError as error:
            self._listener.refused(self._reason(error))
            return
        else:
            if self.in_head:
                self._count_head(len(data) if headers is self._headers else 0)
            return
        self._decline_upgrade(rest)

    def stop(self, error: RefusedError) -> Never:
        """Refuse the rest, from within a callback: raises `error` for the parser to end there."""
        self._raised = error
        raise error

    def drop_trailers(self) -> None:
        """Forget the headers that came behind a chunked body."""
        self._headers = []

    def close(self) -> None:
        """Let go of the listener: else a cycle waits for the garbage collector."""
        del self._parser, self._listener, self.on_body, self.on_message_complete

    # For httptools.

    def on_message_begin(self) -> None:
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        try:
            name = NAMES[name]
        except KeyError:
            name = header_name(name)
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        try:
            self._complete_head()
        except Exception as error:
            self._raised = error
            raise

    def _count_head(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes >= self._limits.head_bytes:
            error = RefusedError(431, f"head over {self._limits.head_bytes} bytes")
            self._listener.refused(error)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Let an upgrade's head be fed again as a plain request's; `rest` may be its body."""
        offered, self._offered = self._offered, None
        if offered is None:
            return
        url, self._url = self._url, b""
        self._original = offered.headers
        self._parser = HttpRequestParser(self)
        self._listener.unparsed(without_upgrade(offered, url) + rest)

    def _complete_head(self) -> None:
        headers = self._headers if self._original is None else self._original
        self._headers = []
        self.in_head = False
        self.head_bytes = 0
        exchange = Exchange()
        exchange.headers = headers
        exchange.method = METHODS[self._parser.get_method()]
        if len(headers) > self._limits.head_fields:
            raise RefusedError(431, f"over {self._limits.head_fields} header lines")
        if not self._read_headers(exchange):
            self._offered = exchange
            return
        self._original = None
        url, self._url = self._url, b""
        try:
            exchange.target, exchange.path, exchange.query = TARGETS[url]
        except KeyError:
            read_target(exchange, url)
        self._listener.head_complete(exchange)

    def _read_headers(self, exchange: Exchange) -> bool:
        """Set what the headers say of the message; False for an offer to upgrade."""
        hosts = 0
        plain = True
        for name, value in exchange.headers:
            if name == b"host":
                hosts += 1
                if value not in HOSTS:
                    check_host(value)
            elif name == b"content-length":
                exchange.content_length = exchange.body_left = int(value)
            elif name in FRAMING_HEADERS:
                read_framing_header(exchange, name, value)
                plain = False
        # Without a connection header only HTTP/1.1 keeps the connection: no need to ask which.
        if not (plain and self._parser.should_keep_alive()):
            read_version(exchange, self._parser)
            if exchange.upgrade is not None and self._parser.should_upgrade():
                return False
        if hosts != 1:
            check_host_count(exchange, hosts)
        if exchange.body_left or exchange.chunked:
            self._bound_body(exchange)
        return True

    def _bound_body(self, exchange: Exchange) -> None:
        limit = self._limits.body_bytes
        if exchange.chunked:
            exchange.body_left = sys.maxsize if limit is None else limit
        elif limit is not None and exchange.body_left > limit:
            raise RefusedError(413, f"body over {limit} bytes")
        exchange.request_open = True

    def _reason(self, error: HttpParserError) -> RefusedError:
        """Why parsing ended.

        A parser error has what a callback raised as its context only when no other exception is
        being handled further up, for instance in an application: hence `_raised`.
        """
        cause = self._raised or error
        if isinstance(cause, RefusedError):
            return cause
        if isinstance(error, HttpParserCallbackError):
            log.error("reading a request failed", exc_info=cause)
            return RefusedError(500, "internal error")
        return RefusedError(400, f"not HTTP/1.1: {error}")


def read_framing_header(exchange: Exchange, name: bytes, value: bytes) -> None:
    """Set on the exchange what one of FRAMING_HEADERS says. Raises RefusedError."""
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


def check_host_count(exchange: Exchange, hosts: int) -> None:
    """Refuse two host headers, and none on HTTP/1.1. Raises RefusedError."""
    if hosts > 1:
        raise RefusedError(400, "host: more than one")
    if hosts == 0 and exchange.http_version == "1.1":
        raise RefusedError(400, "host: missing")


def check_host(value: bytes) -> None:
    """Refuse a value that is no host[:port]. Raises RefusedError."""
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


def _replace_host(exchange: Exchange, authority: bytes) -> None:
    check_host(authority)
    for index, (name, _) in enumerate(exchange.headers):
        if name == b"host":
            exchange.headers[index] = (name, authority)


def split_target(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Target in normal form, its path, its query (without `?`).

    Raises ValueError naming what is wrong with a target that is refused.
    """
    parts = TARGETS.get(raw)
    if parts is None:
        parts = _split(raw)
        if len(raw) <= LONGEST_KNOWN_TARGET and raw != b"*":
            if len(TARGETS) >= KNOWN_TARGETS:
                TARGETS.clear()
            TARGETS[raw] = parts
    return parts


def reduce_absolute(raw: bytes) -> tuple[bytes, bytes]:
    """Origin-form and authority of an absolute-form target. Raises ValueError for others."""
    match = ABSOLUTE.fullmatch(raw)
    if match is None:
        raise ValueError("target: expected a path that begins with / or an http URL")
    rest = match[2]
    return (rest if rest.startswith(b"/") else b"/" + rest), match[1]


def _split(raw: bytes) -> tuple[bytes, bytes, bytes]:
    if raw == b"*":
        return raw, raw, b""
    if not raw.startswith(b"/"):
        raise ValueError("target: expected a path that begins with /")
    if b"#" in raw:
        raise ValueError("target: a fragment (#) is not sent to a server")
    path, mark, query = raw.partition(b"?")
    if PLAIN.fullmatch(path) is None:
        path = _normalise(path)
    return path + mark + query, path, query


def _normalise(path: bytes) -> bytes:
    path = SLASHES.sub(b"/", ESCAPE.sub(_unescape, path))
    for segment in path.split(b"/"):
        if segment in {b".", b".."}:
            raise ValueError("path: segments . and .. are refused")
    return path


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if HEX_PAIR.fullmatch(digits) is None:
        raise ValueError("path: % without two hexadecimal digits")
    value = int(digits, 16)
    if value == 0:
        raise ValueError("path: an escaped NUL is refused")
    return bytes((value,)) if value in UNRESERVED else match[0]
