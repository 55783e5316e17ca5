"""Answers that go on for as long as somebody listens."""

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
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Until:
    """What ends a stream that would go on: the gateway stops, or time (seconds) is up.

    farewell: a last document in that case, for readers to whom a plain end means success.
    """

    stopping: asyncio.Event
    seconds: float | None = None
    farewell: Mapping[str, Any] | None = None


class NdjsonResponse(Response):
    """One JSON document a line, each sent as soon as it is there.

    When the client leaves, `documents` is closed at once, even while it waits for its next item.
    held: closed at the end, whatever the end was. until: what ends the stream before its time.
    """

    media_type = NDJSON

    def __init__(
        self,
        documents: AsyncGenerator[Mapping[str, Any], None],
        held: AsyncExitStack,
        until: Until,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._documents = documents
        self._held, self._until = held, until
        self.init_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with self._held, aclosing(self._documents):
            try:
                await send(head)
                # The server holds the head until a body comes; a follower is to know at once.
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

    The request's body must have been read, so that `receive` has nothing else to tell.
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
