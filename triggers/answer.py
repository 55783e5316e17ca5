"""A function's answer, and how it is collected from a connection."""

import asyncio
from dataclasses import dataclass

from sluice.http1.client import ClientConnection
from sluice.http1.errors import Http1Error
from triggers.errors import ResponseTooLargeError


@dataclass(frozen=True, slots=True)
class FunctionResponse:
    """What a function, or the gateway for it, answered. headers: lower-case names, as sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def succeeded(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    def header(self, name: str) -> str:
        """The first value of a header by its lower-case name, else the empty text."""
        return next((value for key, value in self.headers if key == name), "")


class UnsentError(Exception):
    """The peer certainly got no byte of the request."""


class Waiter:
    """Collects one answer; a ResponseListener."""

    __slots__ = ("_body", "_connection", "_head", "_limit", "_size", "future")

    def __init__(self, connection: ClientConnection, limit: int) -> None:
        self.future: asyncio.Future[tuple[FunctionResponse, bool]] = (
            asyncio.get_running_loop().create_future()
        )
        self._connection, self._limit = connection, limit
        self._head: tuple[int, tuple[tuple[str, str], ...]] = 0, ()
        self._body: list[bytes] = []
        self._size = 0

    def response_started(
        self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        pairs = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in headers)
        self._head = status, pairs

    def response_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._body.append(data)
        elif not self.future.done():
            self._body.clear()
            self._connection.abort()
            text = f"an answer of more than {self._limit} bytes"
            self.future.set_exception(ResponseTooLargeError(text))

    def response_complete(self, reusable: bool) -> None:
        if not self.future.done():
            status, headers = self._head
            self.future.set_result(
                (FunctionResponse(status, headers, b"".join(self._body)), reusable)
            )

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        if not self.future.done():
            kind = error if isinstance(error, Http1Error) else Http1Error(str(error))
            self.future.set_exception(UnsentError(str(error)) if nothing_sent else kind)

    def sending_paused(self) -> None:
        """The request is one write."""

    def sending_resumed(self) -> None:
        """Likewise."""
