"""The client against real sockets, where the kernel and the loop have a say."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.http1.client import Address, ClientConnection, connect
from sluice.http1.errors import ConnectionClosedError
from tests.sluice.http1.fakes import Answer
from tests.sluice.http1.loops import on_both_loops, resident, until

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
RESET = struct.pack("ii", 1, 0)


class Peer:
    """A listening socket whose connections the test drives by hand."""

    def __init__(self, family: str, folder: Path) -> None:
        self.address: Address
        if family == "unix":
            self.listener = socket.socket(socket.AF_UNIX)
            self.address = str(folder / "peer.sock")
            self.listener.bind(self.address)
        else:
            self.listener = socket.socket()
            self.listener.bind(("127.0.0.1", 0))
            self.address = self.listener.getsockname()
        self.listener.listen()

    async def connect(self) -> tuple[ClientConnection, socket.socket]:
        """A connection and the peer's end of it."""
        connection = await connect(self.address, 60)
        sock, _ = self.listener.accept()
        sock.setblocking(False)
        return connection, sock

    def close(self) -> None:
        self.listener.close()


@pytest.fixture(params=["unix", "tcp"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    made = Peer(request.param, tmp_path)
    yield made
    made.close()


async def read(sock: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, 65_536)


@on_both_loops
async def test_connection_is_used_again_and_again(peer: Peer) -> None:
    connection, sock = await peer.connect()
    with sock:
        for _ in range(3):
            response = Answer()
            connection.send(REQUEST, response)
            assert await read(sock) == REQUEST
            sock.send(OK)
            await response.ended.wait()
            assert (response.body, response.reusable) == (b"hello", True)
        connection.close()
        assert await read(sock) == b""


@on_both_loops
async def test_answer_until_the_end_of_the_connection_is_clean(peer: Peer) -> None:
    connection, sock = await peer.connect()
    response = Answer()
    connection.send(REQUEST, response)
    with sock:
        sock.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await response.ended.wait()
    # The request was never read: a Unix socket then ends in a reset, and TCP does too.
    assert response.events[-1] == "failed"
    connection, sock = await peer.connect()
    response = Answer()
    connection.send(REQUEST, response)
    with sock:
        await read(sock)
        sock.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await response.ended.wait()
    assert (response.body, response.reusable, response.error) == (b"hello", False, None)


@on_both_loops
async def test_peer_that_closed_while_idle_is_noticed(peer: Peer) -> None:
    connection, sock = await peer.connect()
    sock.close()
    await until(lambda: not connection.reusable)
    response = Answer()
    connection.send(REQUEST, response)
    await response.ended.wait()
    assert isinstance(response.error, ConnectionClosedError)
    assert response.nothing_sent is True


@on_both_loops
async def test_stale_unix_connection_is_known_to_have_taken_nothing(tmp_path: Path) -> None:
    """The peer closed, the loop has not told us yet: the write fails, the call may be repeated."""
    peer = Peer("unix", tmp_path)
    connection, sock = await peer.connect()
    sock.close()
    assert connection.reusable, "not noticed yet, that is the point"
    response = Answer()
    connection.send(REQUEST, response)
    assert response.events == [], "never told from within send"
    await response.ended.wait()
    assert response.nothing_sent is True
    peer.close()


@on_both_loops
async def test_stale_tcp_connection_is_not_known_to_have_taken_nothing(tmp_path: Path) -> None:
    peer = Peer("tcp", tmp_path)
    connection, sock = await peer.connect()
    sock.close()
    response = Answer()
    connection.send(REQUEST, response)
    await response.ended.wait()
    assert response.nothing_sent is False
    peer.close()


@on_both_loops
async def test_peer_that_dies_with_the_request_in_its_hands_is_ambiguous(peer: Peer) -> None:
    connection, sock = await peer.connect()
    response = Answer()
    connection.send(REQUEST, response)
    assert await read(sock) == REQUEST
    sock.close()
    await response.ended.wait()
    assert isinstance(response.error, ConnectionClosedError)
    assert response.nothing_sent is False
    assert not connection.reusable


@on_both_loops
async def test_reset_in_the_middle_of_an_answer_without_length_is_a_failure(tmp_path: Path) -> None:
    peer = Peer("tcp", tmp_path)
    connection, sock = await peer.connect()
    response = Answer()
    connection.send(REQUEST, response)
    await read(sock)
    sock.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
    await until(lambda: response.body == b"hel")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    await response.ended.wait()
    assert response.events[-1] == "failed"
    peer.close()


@on_both_loops
async def test_connect_to_nobody_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await connect(str(tmp_path / "none.sock"), 60)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect(unused.getsockname(), 60)


@on_both_loops
async def test_connect_gives_up_in_time(tmp_path: Path) -> None:
    """A full backlog answers nothing: a Unix connect would block, TCP's handshake hangs."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            with pytest.raises(TimeoutError):
                await connect(full.getsockname(), 0.05)
        finally:
            for filler in fillers:
                filler.close()


def stream_to(sock: socket.socket, total: int) -> None:
    block = b"x" * 65_536
    sock.setblocking(True)
    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
    sent = 0
    while sent < total:
        sent += sock.send(block[: total - sent])


class Stalling(Answer):
    """Counts a body instead of keeping it, and pauses after the first of it."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection
        self.size = 0

    def response_body(self, data: bytes) -> None:
        if not self.size:
            self.connection.pause_reading()
            self.events.append("stalled")
        self.size += len(data)


@on_both_loops
async def test_answer_of_100_mb_to_a_stalled_reader_stays_with_the_peer(peer: Peer) -> None:
    total = 100_000_000
    connection, sock = await peer.connect()
    response = Stalling(connection)
    connection.send(REQUEST, response)
    writer = threading.Thread(target=stream_to, args=(sock, total), daemon=True)
    before = resident()
    writer.start()
    await until(lambda: "stalled" in response.events)
    stalled = response.size
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert response.size - stalled < 1_000_000
    assert resident() - before < 20_000
    connection.resume_reading()
    await response.ended.wait()
    writer.join()
    assert response.size == total
    assert resident() - before < 20_000
    sock.close()


@on_both_loops
async def test_request_body_to_a_stalled_peer_pauses_the_sender(peer: Peer) -> None:
    connection, sock = await peer.connect()
    response = Answer()
    connection.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n", response)
    sent = 0
    while "paused" not in response.events and sent < 100_000_000:
        connection.write(b"x" * 65_536)
        sent += 65_536
    assert sent < 10_000_000
    drain = threading.Thread(target=drain_all, args=(sock, sent), daemon=True)
    drain.start()
    await until(lambda: "resumed" in response.events)
    connection.abort()
    drain.join()


def drain_all(sock: socket.socket, count: int) -> None:
    with sock:
        sock.setblocking(True)
        sock.settimeout(60)
        while count > 0:
            data = sock.recv(65_536)
            if not data:
                return
            count -= len(data)
