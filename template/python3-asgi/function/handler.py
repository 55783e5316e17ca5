"""A plain ASGI application: start-up, one route, a 404. A framework's app takes its place."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """GET /: 200 with a greeting; any other path: 404."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["path"] == "/":
        await _response(send, 200, {"message": "hello from ASGI", "method": scope["method"]})
    else:
        await _response(send, 404, {"error": f"no route {scope['path']}"})


async def _live(receive: Receive, send: Send) -> None:
    """Open what the app needs at startup, close it at shutdown."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _response(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
