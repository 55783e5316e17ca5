"""A gateway over real sockets: the real registry behind a token, and functions in process."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn

import sluice
from registry.app import create
from registry.settings import read_settings
from sluice.runtime.python.event import Headers
from testbed.ports import free_port

TOKEN = "a-token-of-the-tests"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Event(sluice.Event):
    """What the runtime gives a handler, made of plain values."""

    def __init__(
        self,
        body: bytes = b"",
        method: str = "POST",
        query: str = "",
        headers: dict[str, str] | None = None,
        path: str = "/",
    ) -> None:
        pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        super().__init__(method, path.encode(), query.encode(), Headers(pairs))
        self.body = body


class Gateway:
    """Listens on a port of its own choosing; `stop` and `start` take it away and bring it back
    there.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self.functions: dict[str, ModuleType] = {}
        self.requests: list[tuple[str, str]] = []
        self.port = free_port()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve; calls made from now on are answered."""
        registry = create(read_settings({"SLUICE_DATA_DIR": str(self._data)}))

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._call(registry, scope, receive, send)
            else:
                await registry(scope, receive, send)

        config = uvicorn.Config(
            app, port=self.port, log_level="error", ws="none", timeout_keep_alive=60
        )
        self._server = uvicorn.Server(config)
        socket = config.bind_socket()
        socket.listen(256)  # from here on calls wait instead of being refused
        self._thread = threading.Thread(target=self._server.run, args=([socket],))
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join()

    async def _call(self, registry: Any, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        self.requests.append((scope["method"], path))
        if path.startswith("/registry/"):
            await self._registry(registry, scope, receive, send)
        else:
            await self._function(path.removeprefix("/function/"), scope, receive, send)

    async def _registry(self, registry: Any, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        sent = headers.get(b"authorization", b"").decode()
        if not sent.startswith("Basic ") and sent != f"Bearer {TOKEN}":
            await _response(send, 401, {}, b'{"error": "unauthorized"}')
            return
        identity = b"admin" if sent.startswith("Basic ") else b"function"
        path = scope["path"].removeprefix("/registry")
        inner = {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            "headers": [*scope["headers"], (b"x-sluice-identity", identity)],
        }
        await registry(inner, receive, send)

    async def _function(self, name: str, scope: Message, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        event = Event(body, scope["method"], scope["query_string"].decode(), headers)
        handle = self.functions[name].handle
        if inspect.iscoroutinefunction(handle):
            reply = await handle(event, None)
        else:
            reply = await asyncio.to_thread(handle, event, None)
        await _response(send, reply["statusCode"], reply["headers"], reply["body"])


async def _response(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    lines = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
