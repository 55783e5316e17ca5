"""Responses that are streamed until the client leaves."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

NDJSON: Final = "application/x-ndjson"


class ClientGoneError(Exception):
    """The client left before the response was complete."""


@dataclass(frozen=True, slots=True)
class Until:
    """What ends a stream early: the gateway stops, or `seconds` have passed.

    farewell: the last document in that case, for readers that take a plain end for success.
    """

    stopping: asyncio.Event
    seconds: float | None = None
    farewell: Mapping[str, Any] | None = None


class NdjsonResponse(Response):
    """One JSON document a line, each sent as soon as it is there.

    When the client leaves, `documents` is closed at once, even while it waits for its next item.
    cleanup: closed at the end in every case. until: what ends the stream early.
    """

    media_type = NDJSON

    def __init__(
        self,
        documents: AsyncGenerator[Mapping[str, Any], None],
        cleanup: AsyncExitStack,
        until: Until,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._documents = documents
        self._cleanup, self._until = cleanup, until
        self.init_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with self._cleanup, aclosing(self._documents):
            try:
                await send(head)
                # The server sends the head with the first body bytes; a follower needs it at once.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                await unless_gone(receive, self._send_until_stopped(send))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except ClientGoneError:
                return

    async def _send_until_stopped(self, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        stopped = asyncio.ensure_future(self._until.stopping.wait())
        try:
            await asyncio.wait(
                {sending, stopped},
                timeout=self._until.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if sending.done():
                return sending.result()
        finally:
            await _end(sending, stopped)
        if self._until.farewell is not None:
            await _send_document(send, self._until.farewell)
        return None

    async def _send_all(self, send: Send) -> None:
        async for document in self._documents:
            await _send_document(send, document)


async def _send_document(send: Send, document: Mapping[str, Any]) -> None:
    await send({"type": "http.response.body", "body": encode(document), "more_body": True})


def encode(document: Mapping[str, Any]) -> bytes:
    """A line of a stream: compact, plain ASCII, with its line end."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`; cancels it and raises ClientGoneError when the client leaves first.

    The request's body must have been read, so that `receive` waits for the disconnect only.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        await _end(working, watching)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
