"""Heads that came before are not parsed again: the same bytes where a message begins mean the same.

Clients repeat their heads byte for byte; to parse one, and what the application derives from it, is
a third of what a small call costs: 13.6 -> 9.2 us with 3 headers, 16.7 -> 9.6 with 11, in Python
alone (bench.pythonpath). So a head is remembered when it comes the second time, for all
connections of one server, with what the application leaves as `Exchange.prepared` for the next.

The connection looks a head up and, when it is known, makes the exchange itself
(sluice.http1.connection); this decides what is remembered.

Traps handled here:
- nothing is remembered of a read that holds a second message or not all of the first, as the head
  of one could then stand for the other;
- only plain heads: HTTP/1.1 kept alive, no chunks, no expectation, no upgrade;
- only what an application prepared something for: a head whose meaning changes (credentials) has
  nothing prepared;
- what clients can make us remember is bounded.
"""

from typing import Final

from sluice.http1.exchange import Exchange

HEAD_END: Final = b"\r\n\r\n"
KNOWN_HEADS: Final = 1024
LONGEST_KNOWN_HEAD: Final = 2048
# After so many new heads in a row, a connection's heads are taken to differ always.
PATIENCE: Final = 64


class HeadCache:
    """Heads that came before, shared by a server's connections. Emptied when it is full.

    heads: head to the exchange it made, None after it came once. The connection looks it up itself,
    as a plain dict: CPython calls the methods of a subclass of dict the slow way (2 % of a call of
    a known head, bench.pythonpath).
    """

    __slots__ = ("heads",)

    def __init__(self) -> None:
        self.heads: dict[bytes, Exchange | None] = {}

    def __len__(self) -> int:
        return len(self.heads)

    def note(self, head: bytes) -> None:
        """Keep that `head`, or what stands at its place, came once."""
        if len(head) <= LONGEST_KNOWN_HEAD and head.endswith(HEAD_END):
            if len(self.heads) >= KNOWN_HEADS:
                self.heads.clear()
            self.heads[head] = None

    def remember(self, head: bytes, behind: int, exchange: Exchange) -> None:
        """Remember what `head` made, unless the parser and we may disagree about where it ends.

        behind: how many bytes stood behind `head` in its read. exchange: what the first head in
        that read made. If its message is whole and its body as long as `behind`, then `head` is
        that head, and nothing else was in the read.
        """
        if exchange.request_open or not _is_plain(exchange):
            return
        if behind == (exchange.content_length or 0):
            self.heads[head] = _known(exchange)


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
