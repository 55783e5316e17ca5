"""One GET over a TCP or Unix socket, for health checks and metrics, outside of any call path.

In HTTP/1.0, so that no body is chunked and its end is the end of the connection.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
Address = str | tuple[str, int]


class BodyError(Exception):
    """The body is longer than allowed, or ended early."""


@dataclass(frozen=True, slots=True)
class GetResponse:
    """headers: by lower-case name. body: empty unless the status is 200 and it was asked for."""

    status_line: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def status(self) -> int:
        """The status code; 0 where the status line is not one of HTTP/1."""
        found = STATUS_LINE.match(self.status_line)
        return int(found[1]) if found else 0


async def get(address: Address, path: str, body_bytes: int = 0) -> GetResponse:
    """The response to GET `path`. address: a Unix socket's path, or host and port.

    body_bytes: the longest body that is taken; 0 leaves it unread. There is no timeout. Raises
    OSError, asyncio.IncompleteReadError and asyncio.LimitOverrunError where there is no whole
    head, BodyError.
    """
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = (line.partition(b":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        response = GetResponse(first, headers, b"")
        if not body_bytes or response.status != 200:
            return response
        return GetResponse(first, headers, await _body(reader, headers, body_bytes))
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, headers: Mapping[bytes, bytes], most: int) -> bytes:
    length = headers.get(b"content-length", b"")
    expected = int(length) if length.isdigit() else None
    body = bytearray()
    while (expected is None or len(body) < expected) and (piece := await reader.read(65536)):
        body += piece
        if len(body) > most:
            raise BodyError(f"expected at most {most} bytes, got more")
    if expected is not None and len(body) != expected:
        raise BodyError(f"expected {expected} bytes, got {len(body)}")
    return bytes(body)
