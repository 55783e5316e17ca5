"""Large bodies are read in small pieces, and nothing else of the connection changes by it."""

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest

from sluice.http1.bounded_reads import READ_BYTES, BoundedReads
from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.listener import Server
from tests.sluice.http1.fakes import Call, Echo, Served, bodies, chunked, get, post, statuses
from tests.sluice.http1.loops import on_both_loops, until

LARGE = bytes(range(256)) * 4096  # 1 MiB


class Pieces(Call):
    """Keeps the sizes of what came, and echoes it."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.sizes: list[int] = []

    def body_received(self, data: bytes) -> None:
        self.sizes.append(len(data))
        super().body_received(data)

    def body_complete(self) -> None:
        self.exchange.respond(200, b"", self.body)


class Cutting(Call):
    """Gives up at the first piece that comes after the head's own read."""

    def body_received(self, data: bytes) -> None:
        if self.body:
            self.exchange.abort()
        super().body_received(data)


class CuttingLast(Call):
    """Gives up at the last piece, with which the message is complete."""

    def body_received(self, data: bytes) -> None:
        super().body_received(data)
        if len(self.body) == len(LARGE):
            self.exchange.abort()


class Application:
    """Makes one kind of receiver and keeps those made."""

    def __init__(self, receiver: Any) -> None:
        self.receiver = receiver
        self.calls: list[Any] = []

    def __call__(self, exchange: Exchange) -> Receiver:
        call: Receiver = self.receiver(exchange)
        self.calls.append(call)
        return call


async def served(application: Application) -> tuple[Server, socket.socket]:
    """A server and a client of it that may block in threads."""
    server = Server(application)
    port = await server.listen_tcp("127.0.0.1", 0)
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(60)
    return server, client


def pour(client: socket.socket, data: bytes) -> threading.Thread:
    """Send all, as fast as it is taken and as long as it is, while the loop serves."""

    def send() -> None:
        with contextlib.suppress(OSError):
            client.sendall(data)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    return sending


def whole_answers(client: socket.socket, count: int) -> bytes:
    """What comes until it holds the whole of `count` answers that carry a length."""
    output = b""
    while output.count(b"HTTP/1.1 ") != count or not _complete(output):
        output += client.recv(1 << 20)
    return output


def _complete(output: bytes) -> bool:
    while output:
        head, mark, rest = output.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not mark or len(rest) < length:
            return False
        output = rest[length:]
    return True


async def test_connection_reads_in_small_pieces_for_the_time_of_a_large_body_only() -> None:
    transport = (served := Served()).transport
    served.feed(post(LARGE)[: READ_BYTES + 1])
    assert isinstance(transport.protocol, BoundedReads)
    served.feed(post(LARGE)[READ_BYTES + 1 :])
    assert served.call.body == LARGE
    assert not isinstance(transport.protocol, BoundedReads)


@pytest.mark.parametrize("size", [0, 1, READ_BYTES])
async def test_small_body_leaves_the_reading_as_it_is(size: int) -> None:
    served = Served(Echo)
    served.feed(post(b"s" * size))
    assert served.statuses() == [200]
    assert served.transport.protocol is None


@pytest.mark.parametrize("framing", ["length", "chunks"])
@on_both_loops
async def test_large_body_comes_whole_in_pieces_of_64_kib_at_most(framing: str) -> None:
    application = Application(Pieces)
    server, client = await served(application)
    message = post(LARGE) if framing == "length" else chunked(LARGE[:700_000], LARGE[700_000:])
    sending = pour(client, message)
    output = await asyncio.to_thread(whole_answers, client, 1)
    sending.join()
    assert bodies(output) == [LARGE]
    assert max(application.calls[0].sizes) <= READ_BYTES
    client.close()
    await server.close(1)


@on_both_loops
async def test_requests_before_and_behind_a_large_one_are_answered_in_order() -> None:
    application = Application(Echo)
    server, client = await served(application)
    sending = pour(
        client,
        post(b"one", path="/1")
        + post(LARGE, path="/2")
        + get("/3")
        + chunked(LARGE, path="/4")
        + post(b"five", path="/5"),
    )
    output = await asyncio.to_thread(whole_answers, client, 5)
    sending.join()
    assert statuses(output) == [200] * 5
    assert bodies(output) == [b"/1 one", b"/2 " + LARGE, b"/3 ", b"/4 " + LARGE, b"/5 five"]
    client.close()
    await server.close(1)


@on_both_loops
async def test_sender_that_waits_to_be_asked_is_asked_and_read() -> None:
    def asking(exchange: Exchange) -> Call:
        exchange.send_continue()
        return Echo(exchange)

    server, client = await served(Application(asking))
    message = post(LARGE, "expect: 100-continue")
    head, body = message[: -len(LARGE)], message[-len(LARGE) :]
    client.sendall(head)
    asked = await asyncio.to_thread(client.recv, 1000)
    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    sending = pour(client, body)
    output = await asyncio.to_thread(whole_answers, client, 1)
    sending.join()
    assert bodies(output) == [b"/ " + LARGE]
    client.close()
    await server.close(1)


@pytest.mark.parametrize("end", ["reset", "half close"])
@on_both_loops
async def test_sender_that_leaves_in_a_large_body_is_told_of(end: str) -> None:
    application = Application(Call)
    server, client = await served(application)
    client.sendall(post(LARGE)[:200_000])
    await until(lambda: bool(application.calls) and "body" in application.calls[0].events)
    if end == "half close":
        client.shutdown(socket.SHUT_WR)
    else:
        client.close()
    await until(lambda: application.calls[0].events[-1] == "gone")
    client.close()
    await server.close(1)


@on_both_loops
async def test_large_body_that_stalls_its_taker_stays_with_the_sender_and_goes_on() -> None:
    def paused(exchange: Exchange) -> Call:
        exchange.pause_reading()
        return Echo(exchange)

    application = Application(paused)
    server, client = await served(application)
    body = LARGE * 16
    sending = pour(client, post(body))
    await until(lambda: any(each._reading_paused for each in server.connections))
    # The read of the head was the loop's own, 256 KiB at most.
    assert all(len(each._backlog.held) <= 256 * 1024 + READ_BYTES for each in server.connections)
    application.calls[0].exchange.resume_reading()
    output = await asyncio.to_thread(whole_answers, client, 1)
    sending.join()
    assert bodies(output) == [b"/ " + body]
    client.close()
    await server.close(1)


@pytest.mark.parametrize("receiver", [Cutting, CuttingLast])
@on_both_loops
async def test_call_that_is_cut_from_within_a_read_leaves_no_error_behind(
    receiver: type[Call],
) -> None:
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    application = Application(receiver)
    server, client = await served(application)
    client.sendall(post(LARGE)[:1000])
    await until(lambda: bool(application.calls))
    sending = pour(client, post(LARGE)[1000:])
    await until(lambda: not server.connections)
    client.close()
    sending.join()
    await server.close(1)
    assert errors == []
