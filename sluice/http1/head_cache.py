"""Heads that came before are not parsed again: the same bytes where a message begins mean the same.

Clients repeat their heads byte for byte; to parse one, and what the application derives from it, is
a third of what a small call costs: 13.6 -> 9.2 us with 3 headers, 16.7 -> 9.6 with 11, in Python
alone (bench.pythonpath). So a head is remembered when it comes the second time, for all
connections of one server, with the `plan` that the application leaves in its exchange for the next.

Traps handled here:
- only where a message certainly begins: nothing in flight, queued, held or half parsed, and the
  read holds exactly one message, so that the parser and we agree about where it ends;
- nothing is remembered of a read that holds a second message or not all of the first, as the head
  of one could then stand for the other;
- a response before the body was delivered closes the connection, as it does when a head is parsed;
- only plain heads: HTTP/1.1 kept alive, no chunks, no expectation, no upgrade;
- only what an application left a plan for: a head whose meaning changes (credentials) has none;
- what clients can make us remember is bounded, and a connection whose heads never recur is soon
  looked at no longer.
"""

from typing import Final

from sluice.http1.exchange import Application, Exchange
from sluice.http1.limits import Limits
from sluice.http1.pipelining import HEAD_SLICE, TurnTaker

HEAD_END: Final = b"\r\n\r\n"
KNOWN_HEADS: Final = 1024
LONGEST_KNOWN_HEAD: Final = 2048
# So many new heads in a row, and a connection's heads are taken to differ by nature.
PATIENCE: Final = 64

# Head -> the exchange it made; None after it came once.
Heads = dict[bytes, Exchange | None]


class RecallingConnection(TurnTaker):
    """The part of a connection that knows heads again.

    head_cache: shared by a server's connections; None parses every head.
    """

    __slots__ = ("_heads", "_misses")

    def __init__(self, application: Application, limits: Limits, head_cache: Heads | None) -> None:
        super().__init__(application, limits)
        self._heads: Heads = {} if head_cache is None else head_cache
        # Out of patience from the start, a connection never looks at a cache.
        self._misses = 0 if head_cache is not None else PATIENCE + 1

    def data_received(self, data: bytes) -> None:
        if self._careful or self._current is not None or len(data) > HEAD_SLICE:
            self._take(data)
        elif self._misses > PATIENCE:
            self._feed(data)
        else:
            end = data.find(HEAD_END) + 4
            head = data[:end]
            known = self._heads.get(head)
            if known is not None and len(data) - end == (known.content_length or 0):
                self._replay(known, data[end:])
            else:
                self._meet(head, data)

    def _replay(self, known: Exchange, body: bytes) -> None:
        """What the parser's callbacks would do, for a message with the head of `known`."""
        self._count += 1
        self._misses = 0
        exchange = Exchange()
        exchange.connection = self  # type: ignore[assignment] # a ServerProtocol is a Connection
        exchange.peer = self._peer
        exchange.headers = known.headers
        exchange.method = known.method
        exchange.target = known.target
        exchange.path = known.path
        exchange.query = known.query
        exchange.content_length = known.content_length
        exchange.prepared = prepared = known.prepared
        exchange.seen_before = True
        if body:
            exchange.request_open = True
        self._current = exchange
        self._body_paused = False
        try:
            receiver = self._application(exchange)
            if not exchange.done:
                self._receiver = receiver
                if body:
                    receiver.body_received(body)
                    exchange.request_open = False
                if not exchange.done:
                    receiver.body_complete()
        except Exception as error:  # noqa: BLE001 - whatever an application raises ends its call only
            self._application_failed(exchange, error)
        if exchange.prepared is not prepared:
            known.prepared = exchange.prepared

    def _meet(self, head: bytes, data: bytes) -> None:
        """Parse a message whose head is not known, and remember it the second time."""
        self._misses += 1
        heads = self._heads
        if head not in heads:
            self._feed(data)
            if len(head) <= LONGEST_KNOWN_HEAD and head.endswith(HEAD_END):
                if len(heads) >= KNOWN_HEADS:
                    heads.clear()
                heads[head] = None
            return
        self._seen_before = True
        self._feed(data)
        self._seen_before = False
        exchange, self._prepared = self._prepared, None
        # `exchange` is what the first head in `data` made. If it is whole and as long as all behind
        # `head`, then `head` is that head, and nothing else was in the read.
        if exchange is None or exchange.request_open or not _is_plain(exchange):
            return
        if len(data) - len(head) == (exchange.content_length or 0):
            heads[head] = _known(exchange)


def _is_plain(exchange: Exchange) -> bool:
    special = exchange.chunked or exchange.expects_continue or exchange.upgrade is not None
    return (
        exchange.prepared is not None
        and not special
        and exchange.keep_alive
        and exchange.http_version == "1.1"
    )


def _known(exchange: Exchange) -> Exchange:
    """The part of an exchange that its head alone decides: nothing of its call or connection."""
    known = Exchange()
    known.headers = exchange.headers
    known.method = exchange.method
    known.target, known.path, known.query = exchange.target, exchange.path, exchange.query
    known.content_length = exchange.content_length
    known.prepared = exchange.prepared
    return known
