"""ASGI applications behind the server: on real sockets, by an HTTP client that is not ours."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from sluice.http1.asgi import AsgiApplication, Message, Receive, Scope, Send
from sluice.http1.limits import Limits
from sluice.http1.listener import Server
from tests.sluice.http1.fakes import get, post, statuses
from tests.sluice.http1.loops import on_both_loops, resident, until

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[int]:
    """The port on which `app` is served."""
    application = AsgiApplication(app, **options)
    server = Server(application, Limits())
    port = await server.listen_tcp("127.0.0.1", 0)
    try:
        yield port
    finally:
        await server.close(1)
        await application.close()


async def received(
    send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await received(send, await whole_body(receive), (b"x-path", scope["raw_path"]))


@on_both_loops
async def test_scope_tells_the_request() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await received(send, b"")

    async with (
        serving(app, lifespan_state={"db": 1}) as port,
        httpx.AsyncClient(timeout=60) as client,
    ):
        await client.put(f"http://127.0.0.1:{port}/a%20b/%C3%A9?x=%20", headers={"X-A": "b"})
    scope = seen[0]
    assert scope["type"] == "http"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("PUT", "1.1", "http")
    assert (scope["path"], scope["raw_path"]) == ("/a b/é", b"/a%20b/%C3%A9")
    assert scope["query_string"] == b"x=%20"
    assert (b"x-a", b"b") in scope["headers"]
    assert (b"host", f"127.0.0.1:{port}".encode()) in scope["headers"]
    assert scope["client"][0] == "127.0.0.1"
    assert scope["state"] == {"db": 1}
    scope["state"]["db"] = 2
    assert seen[0]["asgi"]["version"] == "3.0"


@on_both_loops
async def test_state_of_one_call_is_not_that_of_the_next() -> None:
    state = {"count": 1}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["count"] += 1
        await received(send, b"%d" % scope["state"]["count"])

    async with serving(app, lifespan_state=state) as port, httpx.AsyncClient(timeout=60) as client:
        for _ in range(2):
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "2"
    assert state == {"count": 1}


@on_both_loops
async def test_bodies_of_every_size_and_framing_come_back() -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 10_000):
            yield b"x" * min(10_000, size - start)

    async with serving(echo) as port, httpx.AsyncClient(timeout=60) as client:
        for size in (0, 1, 8_000, 100_000, 3_000_000):
            url = f"http://127.0.0.1:{port}/e"
            whole = await client.post(url, content=b"x" * size)
            assert whole.content == b"x" * size
            assert whole.headers["content-length"] == str(size)
            assert (await client.post(url, content=pieces(size))).content == b"x" * size


@on_both_loops
async def test_streamed_answer_arrives_piece_by_piece() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body"})

    async with (
        serving(app) as port,
        httpx.AsyncClient(timeout=60) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/") as response,
    ):
        assert response.headers["transfer-encoding"] == "chunked"
        parts = response.aiter_raw()
        assert await anext(parts) == b"one"
        gate.set()
        assert await anext(parts) == b"two"
        with pytest.raises(StopAsyncIteration):
            await anext(parts)


@on_both_loops
async def test_declared_length_is_kept_and_framing_headers_are_ours() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"Content-Length", b"6"),
            (b"Transfer-Encoding", b"chunked"),
            (b"X-A", b"b"),
            (b"keep-alive", b"timeout=5"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        response = await client.get(f"http://127.0.0.1:{port}/")
        assert response.content == b"onetwo"
        names = [name.lower() for name, _ in response.headers.raw]
        assert sorted(names) == [b"content-length", b"date", b"x-a"]


@on_both_loops
async def test_head_is_answered_with_the_length_and_no_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await received(
            send, b"" if scope["path"] == "/declared" else b"hello", *lengths[scope["path"]]
        )

    lengths = {"/declared": [(b"content-length", b"5")], "/body": []}
    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        for path in lengths:
            response = await client.head(f"http://127.0.0.1:{port}{path}")
            assert response.headers["content-length"] == "5"
            assert (await client.get(f"http://127.0.0.1:{port}/body")).text == "hello"


@on_both_loops
async def test_connection_close_of_the_application_closes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await received(send, b"bye", (b"connection", b"close"))

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get())
        data = await reader.read()
        assert data.count(b"connection: close\r\n") == 1
        assert data.endswith(b"bye")
        writer.close()


@on_both_loops
async def test_continue_is_sent_when_the_application_asks_for_the_body() -> None:
    asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asked.wait()
        await echo(scope, receive, send)

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"abc", "expect: 100-continue")[:-3])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        asked.set()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"abc")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


@on_both_loops
async def test_client_that_leaves_is_a_disconnect_and_send_does_nothing_after() -> None:
    seen: list[Message] = []
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        seen.extend([await receive(), await receive()])
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body"})
        ended.set()

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get())
        await reader.readuntil(b"one")
        writer.close()
        await ended.wait()
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]


@on_both_loops
async def test_receive_after_the_answer_is_a_disconnect() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await whole_body(receive)
        await received(send, b"ok")
        seen.append(await receive())

    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        await client.get(f"http://127.0.0.1:{port}/")
        await until(lambda: bool(seen))
    assert seen == [{"type": "http.disconnect"}]


@on_both_loops
async def test_application_that_fails_before_its_answer_is_a_500_with_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/raise":
            raise LookupError("secret detail")

    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        response = await client.get(f"http://127.0.0.1:{port}/raise")
        assert (response.status_code, response.text) == (500, "internal error\n")
        assert "secret detail" in caplog.text
        assert (await client.get(f"http://127.0.0.1:{port}/return")).status_code == 500
        assert "ended early: GET /return" in caplog.text


@pytest.mark.parametrize("how", ["raises", "returns"])
@on_both_loops
async def test_application_that_ends_within_its_answer_cuts_it(how: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        if how == "raises":
            raise LookupError("too late")

    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await client.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b""}],
        [
            {"type": "http.response.start", "status": 200},
            {"type": "http.response.start", "status": 200},
        ],
        [{"type": "http.response.start", "status": 42}, {"type": "http.response.body"}],
        [
            {"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nb: c")]},
            {"type": "http.response.body"},
        ],
        [{"type": "websocket.accept"}],
    ],
)
@on_both_loops
async def test_message_out_of_order_or_form_is_the_applications_error(
    messages: list[Message],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 500


@on_both_loops
async def test_websocket_is_refused() -> None:
    async with serving(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/", "connection: Upgrade", "upgrade: WebSocket"))
        assert statuses(await reader.readuntil(b"here\n")) == [501]
        writer.close()


@on_both_loops
async def test_body_that_is_not_asked_for_stays_with_the_client() -> None:
    gate = asyncio.Event()
    total = 100_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        await received(send, b"%d" % size)

    before = resident()
    async with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            sending = threading.Thread(target=pour, args=(client, total), daemon=True)
            sending.start()
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert resident() - before < 20_000
            assert sending.is_alive()
            gate.set()
            await until(lambda: not sending.is_alive())
            client.setblocking(False)
            data = await asyncio.get_running_loop().sock_recv(client, 1000)
            assert data.endswith(b"\r\n\r\n%d" % total)
            assert resident() - before < 20_000


def pour(client: socket.socket, total: int) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % total)
    block = b"x" * 100_000
    for _ in range(total // len(block)):
        client.sendall(block)


@on_both_loops
async def test_answer_that_is_not_read_makes_send_wait() -> None:
    sent = 0
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while sent < 100_000_000:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            sent += 65_536
            if gone.is_set():
                break

    before = resident()
    async with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(get())
            previous = -1
            while previous != sent or not sent:
                previous = sent
                await asyncio.sleep(0.02)
            assert 0 < sent < 50_000_000
            assert resident() - before < 20_000
            gone.set()


@on_both_loops
async def test_close_cancels_what_the_drain_left() -> None:
    cancelled = asyncio.Event()
    entered = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get())
        await entered.wait()
        writer.close()
    assert cancelled.is_set()
