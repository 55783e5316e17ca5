"""The server on real sockets: binding, the sweep's clock, drains, and what the kernel does."""

import asyncio
import gc
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.limits import Limits
from sluice.http1.listener import Server
from testbed.ports import free_port
from tests.sluice.http1.fakes import Call, Echo, bodies, get, post, statuses
from tests.sluice.http1.loops import on_both_loops, resident, until


class Application:
    """Makes one kind of receiver and keeps those made."""

    def __init__(self, receiver: Any = Echo) -> None:
        self.receiver = receiver
        self.calls: list[Any] = []

    def __call__(self, exchange: Exchange) -> Receiver:
        call: Receiver = self.receiver(exchange)
        self.calls.append(call)
        return call


async def ask(address: Any, data: bytes) -> bytes:
    """All that comes back until the server closes; our side stays open for it."""
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    response = await reader.read()
    writer.close()
    return response


@on_both_loops
async def test_tcp_unix_and_inherited_sockets_serve_the_same(tmp_path: Path) -> None:
    server = Server(Application())
    port = await server.listen_tcp("127.0.0.1", 0)
    path = tmp_path / "a.sock"
    await server.listen_unix(path)
    inherited = socket.socket(socket.AF_UNIX)
    inherited.bind(str(tmp_path / "b.sock"))
    await server.listen_fd(inherited.detach())
    for address in (("127.0.0.1", port), str(path), str(tmp_path / "b.sock")):
        response = await ask(address, get("/x", "connection: close"))
        assert bodies(response) == [b"/x "]
        assert b"date: Thu, 01 Jan 1970" not in response
    assert path.stat().st_mode & 0o777 == 0o600
    assert await server.close(1) == 0
    assert not path.exists()


@on_both_loops
async def test_taken_port_is_an_error() -> None:
    server = Server(Application())
    port = await server.listen_tcp("127.0.0.1", 0)
    other = Server(Application())
    with pytest.raises(OSError, match="in use"):
        await other.listen_tcp("127.0.0.1", port)
    await server.close(0)
    await other.close(0)


@on_both_loops
async def test_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = Server(Application())
    await server.listen_unix(path)
    other = Server(Application())
    with pytest.raises(OSError, match="another process listens"):
        await other.listen_unix(path)
    assert statuses(await ask(str(path), get("/", "connection: close"))) == [200]
    await server.close(0)
    path.write_text("not a socket")
    with pytest.raises(OSError, match="no socket"):
        await other.listen_unix(path)
    assert path.read_text() == "not a socket"
    await other.close(0)


@on_both_loops
async def test_sweep_ends_a_slow_head_and_an_idle_connection() -> None:
    server = Server(Application(), Limits(header_timeout=0.3, idle_timeout=0.3))
    port = await server.listen_tcp("127.0.0.1", 0)
    slow, idle = await asyncio.gather(
        ask(("127.0.0.1", port), b"GET / HTTP/1.1\r\nhost"), ask(("127.0.0.1", port), b"")
    )
    assert statuses(slow) == [408]
    assert idle == b""
    await server.close(1)


@on_both_loops
async def test_drain_answers_the_call_in_flight_and_takes_no_new_connection() -> None:
    application = Application(Call)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", free_port())
    in_flight = asyncio.create_task(ask(("127.0.0.1", port), get("/slow")))
    idle = asyncio.create_task(ask(("127.0.0.1", port), b""))
    await until(lambda: len(application.calls) == 1 and len(server.connections) == 2)
    closing = asyncio.create_task(server.close(60))
    assert await idle == b""
    with pytest.raises(ConnectionRefusedError):
        await ask(("127.0.0.1", port), get())
    assert not closing.done()
    application.calls[0].response(b"done")
    response = await in_flight
    assert statuses(response) == [200]
    assert b"\r\nconnection: close\r\n" in response
    assert await closing == 0


@on_both_loops
async def test_drain_cuts_a_stuck_call_after_the_grace() -> None:
    application = Application(Call)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    stuck = asyncio.create_task(ask(("127.0.0.1", port), get("/stuck")))
    await until(lambda: len(application.calls) == 1)
    assert await server.close(0.05) == 1
    assert application.calls[0].events == ["complete", "gone"]
    assert statuses(await stuck) == []


@on_both_loops
async def test_client_that_leaves_is_told_while_its_pipelined_requests_wait() -> None:
    application = Application(Call)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/slow") + get("/b") * 500)
    await until(lambda: len(application.calls) == 1)
    writer.close()
    await until(lambda: application.calls[0].events == ["complete", "gone"])
    assert len(application.calls) == 1
    assert await server.close(1) == 0


@pytest.mark.parametrize("family", ["tcp", "unix"])
@on_both_loops
async def test_client_that_leaves_is_told_while_reading_is_paused(
    family: str, tmp_path: Path
) -> None:
    """A paused transport reports no end, and more waits before it than the bounded buffer takes.

    What the kernel has not taken yet hides the end from it too: that client stalls, no more.
    """
    application = Application(Call)
    server = Server(application)
    address: Any = str(tmp_path / "a.sock")
    client = socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET)
    if family == "unix":
        await server.listen_unix(Path(address))
    else:
        address = ("127.0.0.1", await server.listen_tcp("127.0.0.1", 0))
    with client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, address)
        client.send(get("/slow"))
        await until(lambda: len(application.calls) == 1)
        connection = next(iter(server.connections))
        while not connection._reading_paused:
            client.send(get("/b") * 300)
            await asyncio.sleep(0.001)
        client.send(get("/b"))
    await until(lambda: application.calls[0].events == ["complete", "gone"])
    await server.close(1)


@on_both_loops
async def test_client_that_half_closes_is_gone() -> None:
    application = Application(Call)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/slow"))
    writer.write_eof()
    assert await reader.read() == b""
    assert application.calls[0].events == ["complete", "gone"]
    writer.close()
    await server.close(1)


@pytest.mark.parametrize("family", ["tcp", "unix"])
@on_both_loops
async def test_early_refusal_reaches_a_client_that_is_still_sending(
    family: str, tmp_path: Path
) -> None:
    """Without lingering the kernel answers the rest of the body with a reset."""
    server = Server(Application(), Limits(body_bytes=1000))
    address: Any = str(tmp_path / "a.sock")
    if family == "unix":
        await server.listen_unix(Path(address))
    else:
        address = ("127.0.0.1", await server.listen_tcp("127.0.0.1", 0))
    for _ in range(5):
        response = await ask(address, post(b"x" * 3_000_000))
        assert statuses(response) == [413]
    await server.close(1)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@on_both_loops
async def test_aborted_answer_never_ends_in_peace(version: str) -> None:
    class Breaking(Call):
        def body_complete(self) -> None:
            self.exchange.start_response(200, b"", None)
            self.exchange.write(b"half")

    application = Application(Breaking)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/", version=version))
    head = await reader.readuntil(b"half")
    application.calls[0].exchange.abort()
    rest = b""
    try:
        rest = await reader.read()
    except ConnectionResetError:
        broken = True
    else:
        broken = b"transfer-encoding: chunked" in head
    assert not rest.endswith(b"0\r\n\r\n")
    assert broken, "HTTP/1.0 knows an answer's end by the connection's: it must be a reset"
    writer.close()
    await server.close(1)


class Pouring(Call):
    """Answers with 100 MB as fast as the client takes them."""

    TOTAL = 100_000_000
    BLOCK = b"x" * 65_536

    def body_complete(self) -> None:
        self.sent = 0
        self.exchange.start_response(200, b"", self.TOTAL)
        self.pour()

    def pour(self) -> None:
        while not self.exchange.writing_paused and self.sent < self.TOTAL:
            block = self.BLOCK[: self.TOTAL - self.sent]
            self.sent += len(block)
            self.exchange.write(block)
        if self.sent == self.TOTAL:
            self.exchange.end()

    def writing_resumed(self) -> None:
        self.pour()


@on_both_loops
async def test_100_mb_to_a_stalled_client_stay_unmade_until_it_reads() -> None:
    application = Application(Pouring)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    before = resident()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(get("/", "connection: close"))
        await until(
            lambda: bool(application.calls) and application.calls[0].exchange.writing_paused
        )
        sent = application.calls[0].sent
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert application.calls[0].sent - sent < 10_000_000, "what the kernel takes, not more"
        assert sent < 50_000_000
        assert resident() - before < 20_000
        reading = threading.Thread(target=drain, args=(client, received := [0]), daemon=True)
        reading.start()
        await until(lambda: application.calls[0].exchange.done)
        await server.close(5)
        reading.join()
    assert received[0] > Pouring.TOTAL
    assert resident() - before < 20_000


def drain(client: socket.socket, received: list[int]) -> None:
    while data := client.recv(1_000_000):
        received[0] += len(data)


class Counting(Call):
    """Counts a body and stops taking it until told otherwise."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.size = 0
        exchange.pause_reading()

    def body_received(self, data: bytes) -> None:
        self.size += len(data)

    def body_complete(self) -> None:
        self.exchange.respond(200, b"", b"%d" % self.size)


@on_both_loops
async def test_100_mb_to_a_stalled_application_stay_with_the_client() -> None:
    application = Application(Counting)
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    total = 100_000_000
    before = resident()
    with socket.create_connection(("127.0.0.1", port)) as client:
        sending = threading.Thread(target=pour, args=(client, total), daemon=True)
        sending.start()
        await until(lambda: bool(application.calls))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert application.calls[0].size < 300_000, "what was read with the head, not more"
        assert resident() - before < 20_000
        application.calls[0].exchange.resume_reading()
        await until(lambda: bool(application.calls[0].exchange.done))
        sending.join()
        assert bodies(client.recv(1000)) == [b"%d" % total]
    await server.close(5)
    assert resident() - before < 20_000


def pour(client: socket.socket, total: int) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % total)
    block = b"x" * 100_000
    for _ in range(total // len(block)):
        client.sendall(block)


@pytest.mark.parametrize("reads", [False, True])
@on_both_loops
async def test_endless_tiny_pipelined_requests_keep_memory_flat(reads: bool) -> None:
    server = Server(Application(Echo))
    server._application.calls = _Forgetting()  # type: ignore[attr-defined] # counts, keeps nothing
    port = await server.listen_tcp("127.0.0.1", 0)
    before = resident()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.3)
        sending = threading.Thread(target=send_endlessly, args=(client,), daemon=True)
        reading = threading.Thread(target=drain_quietly, args=(client,), daemon=True)
        sending.start()
        if reads:
            reading.start()
        peak = 0

        def sent() -> bool:
            nonlocal peak
            peak = max(peak, resident())
            return not sending.is_alive()

        await until(sent)
        if reads:
            reading.join()
    await server.close(0)
    assert peak - before < 20_000


class _Forgetting(list[Any]):
    def append(self, item: Any) -> None:
        """Keep nothing."""


def send_endlessly(client: socket.socket) -> None:
    """20 MB of the smallest requests, or as many as the server takes."""
    block = get() * 2000
    try:
        for _ in range(20_000_000 // len(block)):
            client.sendall(block)
    except TimeoutError:
        pass
    client.shutdown(socket.SHUT_WR)


def drain_quietly(client: socket.socket) -> None:
    try:
        while client.recv(1_000_000):
            pass
    except OSError:
        pass


@on_both_loops
async def test_closed_connections_leave_nothing_to_the_collector() -> None:
    server = Server(Application(Echo))
    server._application.calls = _Forgetting()  # type: ignore[attr-defined] # as above
    port = await server.listen_tcp("127.0.0.1", 0)
    await ask(("127.0.0.1", port), get("/", "connection: close"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await ask(("127.0.0.1", port), get("/", "connection: close"))
        await until(lambda: not server.connections)
        left = [item for item in gc.get_objects() if type(item).__name__ == "ServerConnection"]
    finally:
        gc.enable()
    assert len(left) < 5
    await server.close(0)


class Broken:
    """Stands for a connection whose sweep has a bug."""

    def __init__(self) -> None:
        self.aborted = False

    def sweep(self, now: float) -> None:
        raise LookupError("sweep's bug")

    def abort(self) -> None:
        self.aborted = True


@on_both_loops
async def test_connection_whose_sweep_fails_is_cut_and_the_others_are_swept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(Application(), Limits(idle_timeout=0.3))
    port = await server.listen_tcp("127.0.0.1", 0)
    broken: Any = Broken()
    server.connections.add(broken)
    assert await ask(("127.0.0.1", port), b"") == b""
    assert broken.aborted
    assert "sweep's bug" in caplog.text
    server.connections.discard(broken)
    await server.close(0)
