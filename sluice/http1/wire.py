"""Bytes of HTTP/1.1 as they stand on the wire: status lines, header lines, chunks, the date.

Names of headers are lower case everywhere in this package; what a peer sent in capitals is
folded by `header_name`, which also makes equal names one object, so that they hash once.
"""

import re
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

__all__ = [
    "CONTINUE",
    "DATE",
    "HOP_BY_HOP",
    "LAST_CHUNK",
    "DateLine",
    "chunk",
    "header_lines",
    "header_name",
    "status_line",
]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

# Read for one connection and never passed on; so is every name that `connection` lists.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A client may invent names for ever: the table takes no more than this, and no long ones.
KNOWN_NAMES: Final = 1024
LONGEST_KNOWN_NAME: Final = 64

# What `header_name` found so far: the hot paths look here first. Emptied when it is full.
NAMES: Final[dict[bytes, bytes]] = {}
_tokens: set[bytes] = set()


def status_line(status: int) -> bytes:
    """The first line of a response; a status without a name gets an empty reason.

    Raises ValueError for a number that is not 100 to 999.
    """
    line = STATUS_LINES.get(status)
    if line is not None:
        return line
    if not 100 <= status <= 999:
        raise ValueError(f"status {status}: expected 100 to 999")
    return b"HTTP/1.1 %d \r\n" % status


def header_name(raw: bytes) -> bytes:
    """The name in lower case, the same object for the same name."""
    name = NAMES.get(raw)
    if name is None:
        name = raw.lower()
        if len(raw) <= LONGEST_KNOWN_NAME:
            if len(NAMES) > KNOWN_NAMES - 2:
                NAMES.clear()
            name = NAMES[raw] = NAMES.setdefault(name, name)
    return name


def header_lines(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """`name: value` lines, each with its CRLF.

    Raises ValueError when a name is no token or a value would break the line: a handler's text
    must not be able to add headers or a body of its own.
    """
    for name, _ in pairs:
        if name not in _tokens:
            _check_name(name)
    lines = b"".join([b"%b: %b\r\n" % pair for pair in pairs])
    count = len(pairs)
    if lines.count(b"\n") != count or lines.count(b"\r") != count or b"\0" in lines:
        name = next(name for name, value in pairs if re.search(rb"[\r\n\0]", value))
        raise ValueError(f"header {name.decode('latin-1')}: value holds CR, LF or NUL")
    return lines


def _check_name(name: bytes) -> None:
    if TOKEN.fullmatch(name) is None:
        raise ValueError(f"header name {name!r}: expected letters, digits or !#$%&'*+-.^_`|~")
    if len(_tokens) < KNOWN_NAMES and len(name) <= LONGEST_KNOWN_NAME:
        _tokens.add(name)


def chunk(data: bytes) -> bytes:
    """One chunk; `data` must not be empty, for an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class DateLine:
    """The date header as last rendered; the listener's sweep renders it anew."""

    __slots__ = ("_second", "line")

    def __init__(self) -> None:
        self._second = 0
        self.line = b""
        self.refresh(0)

    def refresh(self, now: float) -> None:
        """Render the line when `now` (seconds since the epoch) is in another second."""
        second = int(now)
        if second != self._second or not self.line:
            self._second = second
            self.line = b"date: %b\r\n" % formatdate(second, usegmt=True).encode()


DATE: Final = DateLine()
