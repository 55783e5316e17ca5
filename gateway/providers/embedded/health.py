"""Checks by a request whether a replica still responds."""

import asyncio
from contextlib import suppress
from typing import Final

REQUEST: Final = b"GET /_/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
FIRST_BYTES: Final = b"HTTP/1."
# Seconds. A timer that is later than this was late because the gateway was blocked: ask again.
LATE: Final = 0.5


async def responds(path: str, patience: float) -> bool:
    """Whether the replica at socket `path` gives any HTTP response within `patience` seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + patience
        try:
            return await asyncio.wait_for(_ask(path), patience)
        except TimeoutError:
            if loop.time() - due < LATE:
                return False


async def _ask(path: str) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    try:
        writer.write(REQUEST)
        return (await reader.readexactly(len(FIRST_BYTES))) == FIRST_BYTES
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
