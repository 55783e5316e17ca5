"""Runs an ASGI 3 application behind http1's server: http, not websocket; lifespan is next door.

Traps handled here:
- one task a call, kept in a set: a loop holds tasks weakly only;
- 100 Continue goes out when the application first asks for the body, not before;
- a body the application does not take is not read: above 64 KiB reading pauses; a response the
  client does not take makes `send` wait;
- a client that is gone is `http.disconnect` to `receive`, and `send` then does nothing;
- an application that raises, or returns without a response, is a 500 with a traceback in the log;
  one that ends in the middle of its response cuts the connection;
- the state of the lifespan is copied for each call, shallowly, as the specification has it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.wire import HOP_BY_HOP, header_lines, header_name

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BUFFERED_BODY: Final = 64 * 1024
PLAIN_TEXT: Final = b"content-type: text/plain; charset=utf-8\r\n"
# As uvicorn says of itself; from 2.4 on a framework waits for `send` to fail and no longer listens
# for http.disconnect, so that a response that waits for news would outlive its reader.
ASGI_VERSION: Final = {"version": "3.0", "spec_version": "2.3"}


class AsgiApplication:
    """An `application` of http1 that runs `app`, one task a call.

    lifespan_state: what `Lifespan.state` holds after start-up; None when there is no lifespan.
    """

    def __init__(self, app: AsgiApp, lifespan_state: Mapping[str, Any] | None = None) -> None:
        self._app, self._state = app, lifespan_state
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange) -> Receiver:
        call = AsgiCall(exchange)
        if (exchange.upgrade or b"").lower() == b"websocket":
            exchange.respond(501, PLAIN_TEXT, b"websocket: not served here\n")
            return call
        scope = self._scope(exchange)
        task = asyncio.get_running_loop().create_task(call.run(self._app, scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    async def close(self) -> None:
        """Cancel the calls that still run; for after the listener's drain."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _scope(self, exchange: Exchange) -> Scope:
        scope: Scope = {
            "type": "http",
            "asgi": ASGI_VERSION,
            "http_version": exchange.http_version,
            "method": exchange.method,
            "scheme": "http",
            "path": unquote(exchange.path.decode("ascii")),
            "raw_path": exchange.path,
            "query_string": exchange.query,
            "root_path": "",
            "headers": exchange.headers,
            "client": _client(exchange.peer),
            "server": None,
        }
        if self._state is not None:
            scope["state"] = dict(self._state)
        return scope


class AsgiCall:
    """One call: the receiver of its exchange, and `receive` and `send` of its task."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._body: list[bytes] = []
        self._buffered = 0
        self._complete = self._body_delivered = self._ended = self._paused = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._started: Message | None = None

    # For the exchange.

    def body_received(self, data: bytes) -> None:
        self._body.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFERED_BODY and not self._paused:
            self._paused = True
            self._exchange.pause_reading()
        _wake(self._readable)

    def body_complete(self) -> None:
        self._complete = True
        _wake(self._readable)

    def client_gone(self) -> None:
        self._ended = True
        _wake(self._readable)
        _wake(self._writable)

    def writing_paused(self) -> None:
        """Nothing to do: `send` asks the exchange."""

    def writing_resumed(self) -> None:
        _wake(self._writable)

    # For the application.

    async def run(self, app: AsgiApp, scope: Scope) -> None:
        """Run the application to its end; never raises but CancelledError."""
        exchange = self._exchange
        try:
            await app(scope, self.receive, self.send)
            if not (exchange.done or self._ended):
                log.error("application ended early: %s %s", exchange.method, scope["path"])
        except Exception:
            log.exception("application failed: %s %s", exchange.method, scope["path"])
        finally:
            self._end()

    def _end(self) -> None:
        exchange = self._exchange
        if exchange.done:
            return
        if exchange.response_started:
            exchange.abort()
        else:
            exchange.close_after()
            exchange.respond(500, PLAIN_TEXT, b"internal error\n")

    async def receive(self) -> Message:
        """The next piece of the body, or http.disconnect after the response or the client's end."""
        self._exchange.send_continue()
        while not (self._ended or self._exchange.done):
            if not self._body_delivered and (self._body or self._complete):
                return self._take_body()
            self._readable = asyncio.get_running_loop().create_future()
            await self._readable
        return {"type": "http.disconnect"}

    def _take_body(self) -> Message:
        body, self._body = b"".join(self._body), []
        self._buffered = 0
        # Once the end of the body was reported, only the disconnect is left to report.
        self._body_delivered = self._complete
        message = {"type": "http.request", "body": body, "more_body": not self._complete}
        if self._paused:
            self._paused = False
            self._exchange.resume_reading()
        return message

    async def send(self, message: Message) -> None:
        """Take a message of the response; waits while the client does not read.

        Raises RuntimeError for messages out of order, ValueError for headers that are none.
        """
        kind = message["type"]
        if self._ended:
            return
        if self._exchange.done:
            raise RuntimeError(f"{kind} after the response was complete")
        if kind == "http.response.start":
            if self._started is not None:
                raise RuntimeError("http.response.start came twice")
            self._started = message
            return
        if kind != "http.response.body" or self._started is None:
            raise RuntimeError(
                f"{kind}: expected http.response.{'body' if self._started else 'start'}"
            )
        self._send_body(
            self._started, bytes(message.get("body", b"")), more=bool(message.get("more_body"))
        )
        if self._exchange.writing_paused and not self._exchange.done:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def _send_body(self, started: Message, body: bytes, *, more: bool) -> None:
        exchange = self._exchange
        if not exchange.response_started:
            lines, length, close = _response_head(started.get("headers", ()))
            if close:
                exchange.close_after()
            status = int(started["status"])
            if not more and length in {None, len(body)}:
                exchange.respond(status, lines, body)
                _wake(self._readable)
                return
            exchange.start_response(status, lines, length)
        if more:
            exchange.write(body)
        else:
            exchange.end(body)
            _wake(self._readable)


def _response_head(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int | None, bool]:
    """Rendered lines, declared length, and whether the application asks to close."""
    length: int | None = None
    close = False
    pairs: list[tuple[bytes, bytes]] = []
    for raw, value in headers:
        name = header_name(bytes(raw))
        if name == b"content-length":
            length = int(value)
        elif name == b"connection":
            close = close or value.lower() == b"close"
        elif name not in HOP_BY_HOP:
            pairs.append((name, bytes(value)))
    return header_lines(pairs), length, close


def _client(peer: str) -> tuple[str, int] | None:
    host, mark, port = peer.rpartition(":")
    return (host, int(port)) if mark else None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
