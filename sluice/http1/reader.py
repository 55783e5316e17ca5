"""Reads requests: bytes in, exchanges out; whose turn it is, is decided in sluice.http1.protocol.

Traps handled here (checks of a head's content are in sluice.http1.head):
- the parser has no limit on heads: bytes are counted until a head is complete, exactly when the
  head comes alone, give or take a slice when it comes pipelined;
- keep-alive is asked of the parser at the end of the head, later it may say the opposite;
- an offer to upgrade would make the parser drop the body: such a head is fed again without it;
- trailers come as headers after the body, and are dropped;
- what a callback raises comes back as a parser error, which must not become the client's 400.
"""

import asyncio
import logging
import sys
from abc import abstractmethod
from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from sluice.http1 import head
from sluice.http1.bounded_reads import READ_BYTES
from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Exchange
from sluice.http1.head import HOSTS, TELLING
from sluice.http1.limits import Limits
from sluice.http1.target import TARGETS
from sluice.http1.wire import NAMES, header_name

log = logging.getLogger(__name__)


class _Methods(dict[bytes, str]):
    """Methods as text, each once."""

    def __missing__(self, method: bytes) -> str:
        if method == b"CONNECT":
            raise RefusedError(405, "CONNECT: this is no proxy")
        self[method] = text = method.decode("ascii")
        return text


# The parser knows some forty methods and refuses others, so this table is bounded.
METHODS: Final = _Methods()


class RequestReader(asyncio.Protocol):
    """The half of a connection that parses. Subclasses take the exchanges and the bodies."""

    __slots__ = (
        "_careful",
        "_count",
        "_head_bytes",
        "_headers",
        "_held",
        "_in_head",
        "_limits",
        "_offered",
        "_original",
        "_parser",
        "_peer",
        "_raised",
        "_url",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = HttpRequestParser(self)
        self._peer = ""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._head_bytes = self._count = 0
        # What a callback raised to stop the parser.
        self._raised: Exception | None = None
        # A head that offers an upgrade: kept while it is fed again without the offer.
        self._offered: Exchange | None = None
        self._original: list[tuple[bytes, bytes]] | None = None
        # Bytes not parsed yet.
        self._held = b""
        # Whether anything is out of the ordinary, so that the ordinary is one comparison.
        self._careful = False

    @abstractmethod
    def _head_read(self, exchange: Exchange) -> None:
        """Take a request whose head is read and good."""

    @abstractmethod
    def _bound_reads(self) -> None:
        """Take the message that is now read in small pieces."""

    @abstractmethod
    def _advance(self) -> None:
        """Parse what is held, when it may be parsed."""

    @abstractmethod
    def _refuse(self, error: RefusedError) -> None:
        """Take it that nothing more can be read, and why."""

    def _feed(self, data: bytes) -> None:
        """Parse; never raises. `data` is at most what the head limit leaves."""
        headers = self._headers
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except HttpParserError as error:
            self._refuse(self._reason(error))
            return
        else:
            if self._in_head:
                self._count_head(len(data) if headers is self._headers else 0)
            return
        self._decline_upgrade(rest)

    def _count_head(self, size: int) -> None:
        self._careful = True
        self._head_bytes += size
        if self._head_bytes >= self._limits.head_bytes:
            self._refuse(RefusedError(431, f"head over {self._limits.head_bytes} bytes"))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read an upgrade's head again as that of a plain request; `rest` may be its body."""
        offered, self._offered = self._offered, None
        if offered is None:
            return
        url, self._url = self._url, b""
        self._original = offered.headers
        # Held, not fed at once: an answer from within would have the rest parsed inside the parser.
        self._held = head.without_upgrade(offered, url) + rest + self._held
        self._careful = True
        self._parser = HttpRequestParser(self)
        self._advance()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._count += 1

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
            self._take_head()
        except Exception as error:
            self._raised = error
            raise

    def _take_head(self) -> None:
        headers = self._headers if self._original is None else self._original
        self._headers = []
        self._in_head = False
        self._head_bytes = 0
        exchange = Exchange()
        exchange.peer = self._peer
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
            head.read_target(exchange, url)
        self._head_read(exchange)

    def _read_headers(self, exchange: Exchange) -> bool:
        """Set what the headers say of the message; False for an offer to upgrade."""
        hosts = 0
        plain = True
        for name, value in exchange.headers:
            if name == b"host":
                hosts += 1
                if value not in HOSTS:
                    head.check_host(value)
            elif name == b"content-length":
                exchange.content_length = exchange.body_left = int(value)
            elif name in TELLING:
                head.read_telling(exchange, name, value)
                plain = False
        # Without a connection header only HTTP/1.1 keeps the connection: no need to ask which.
        if not (plain and self._parser.should_keep_alive()):
            head.read_version(exchange, self._parser)
            if exchange.upgrade is not None and self._parser.should_upgrade():
                return False
        if hosts != 1:
            head.check_hosts(exchange, hosts)
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
        if exchange.body_left > READ_BYTES:
            self._bound_reads()

    def _reason(self, error: HttpParserError) -> RefusedError:
        """Why reading ended. The parser's error has what a callback raised as its context, but only
        when nothing is being handled further up, as may be in an application.
        """
        cause = self._raised or error
        if isinstance(cause, RefusedError):
            return cause
        if isinstance(error, HttpParserCallbackError):
            log.error("reading a request failed", exc_info=cause)
            return RefusedError(500, "internal error")
        return RefusedError(400, f"not HTTP/1.1: {error}")
