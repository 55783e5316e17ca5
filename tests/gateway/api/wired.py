"""A request to an ASGI application whose two directions a test drives by hand."""

import asyncio
import base64
from collections.abc import MutableMapping
from typing import Any, Self

from starlette.types import ASGIApp

from tests.gateway.api.conftest import PASSWORD

Message = MutableMapping[str, Any]


class Wired:
    """One exchange under way: `sent` fills as the application answers."""

    def __init__(self, app: ASGIApp, method: str, target: str, **headers: str) -> None:
        path, _, query = target.partition("?")
        login = base64.b64encode(":".join(PASSWORD).encode()).decode()
        named = {"authorization": f"Basic {login}", **headers}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in named.items()
            ],
            "client": ("127.0.0.1", 1),
        }
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self._app = app

    async def __aenter__(self) -> Self:
        self.task = asyncio.ensure_future(self._app(self.scope, self.incoming.get, self.sent.put))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def body(self, data: bytes = b"", more: bool = False) -> None:
        await self.incoming.put({"type": "http.request", "body": data, "more_body": more})

    async def leave(self) -> None:
        await self.incoming.put({"type": "http.disconnect"})

    async def next(self) -> Message:
        """The next message that says something."""
        async with asyncio.timeout(60):
            while True:
                message = await self.sent.get()
                if message.get("body") != b"" or not message["more_body"]:
                    return message

    async def rest(self) -> bytes:
        """The bodies up to the end of the answer."""
        body = b""
        while True:
            message = await self.next()
            piece: bytes = message["body"]
            body += piece
            if not message.get("more_body"):
                return body
