import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice.http_get import BodyError, get


@asynccontextmanager
async def peer(path: Path, response: bytes) -> AsyncIterator[list[bytes]]:
    """A server on a Unix socket that sends `response` and closes; yields the heads it got."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield heads


async def test_body_ends_with_the_connection_where_no_length_is_given(tmp_path: Path) -> None:
    async with peer(tmp_path / "s", b"HTTP/1.0 200 Fine\r\nX-A: b\r\n\r\nhello") as heads:
        response = await get(str(tmp_path / "s"), "/metrics", 10)
    assert (response.status, response.headers, response.body) == (200, {b"x-a": b"b"}, b"hello")
    assert heads == [b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n"]


async def test_body_is_left_unread_where_none_is_wanted(tmp_path: Path) -> None:
    async with peer(tmp_path / "s", b"HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nnot") as _:
        response = await get(str(tmp_path / "s"), "/healthz")
    assert (response.status, response.body) == (503, b"")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"HTTP/1.0 200 Fine\r\n\r\n", "at most 4 bytes, got more"),
        (b"HTTP/1.0 200 Fine\r\ncontent-length: 9\r\n\r\n", "at most 4 bytes, got more"),
    ],
)
async def test_body_over_the_limit_is_refused(tmp_path: Path, head: bytes, reason: str) -> None:
    async with peer(tmp_path / "s", head + b"hello") as _:
        with pytest.raises(BodyError, match=reason):
            await get(str(tmp_path / "s"), "/", 4)


async def test_body_that_ends_early_is_refused(tmp_path: Path) -> None:
    async with peer(tmp_path / "s", b"HTTP/1.0 200 Fine\r\ncontent-length: 9\r\n\r\nhello") as _:
        with pytest.raises(BodyError, match="expected 9 bytes, got 5"):
            await get(str(tmp_path / "s"), "/", 100)


async def test_peer_that_speaks_no_http_has_no_status(tmp_path: Path) -> None:
    async with peer(tmp_path / "s", b"nonsense\r\n\r\n") as _:
        assert (await get(str(tmp_path / "s"), "/")).status == 0


async def test_connection_that_ends_before_a_head_is_an_error(tmp_path: Path) -> None:
    async with peer(tmp_path / "s", b"") as _:
        with pytest.raises(asyncio.IncompleteReadError):
            await get(str(tmp_path / "s"), "/")
