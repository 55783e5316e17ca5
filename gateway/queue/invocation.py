"""A function called from the queue: the stored head goes out as it is, the answer is collected."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.call import Call
from gateway.errors import SluiceError, UpstreamError
from gateway.queue.call import QueuedCall
from gateway.routes import Route
from http1.client import ClientConnection
from http1.wire import HOP_BY_HOP

if TYPE_CHECKING:
    from gateway.invoker import Invoker


@dataclass(frozen=True, slots=True)
class FunctionAnswer:
    """What a function answered; hop-by-hop headers are left out."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


Ended = Callable[[QueuedCall, float, FunctionAnswer | SluiceError], None]


class QueuedInvocation(Call):
    """Calls back once, without a task or future. data: the request's bytes."""

    def __init__(
        self, invoker: "Invoker", route: Route, call: QueuedCall, data: bytes, ended: Ended
    ) -> None:
        super().__init__(invoker, route, time.monotonic())
        self.method = call.request.head[: call.request.head.index(b" ")].decode("ascii")
        self._call, self._data, self._ended = call, data, ended
        self._status, self._size = 0, 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []

    def send(self, connection: ClientConnection) -> None:
        connection.send(self._data, self, self.method == "HEAD")

    def response_started(
        self, status: int, _reason: bytes, headers: list[tuple[bytes, bytes]], _length: int | None
    ) -> None:
        self.answer_begun = True
        self._status = status
        self._headers = [pair for pair in headers if pair[0] not in HOP_BY_HOP]

    def response_body(self, data: bytes) -> None:
        if self.over:
            return
        self._size += len(data)
        self._pieces.append(data)
        limit = self.invoker.answer_bytes
        if self._size > limit:
            error = UpstreamError(f"{self.route.name}: answer over {limit} bytes")
            self.fail(error, time.monotonic())

    def response_complete(self, reusable: bool) -> None:
        if self.over:
            return
        self.complete(self._status, reusable, time.monotonic())
        answer = FunctionAnswer(self._status, self._headers, b"".join(self._pieces))
        self._ended(self._call, self.started, answer)

    def sending_paused(self) -> None:
        """The request is in memory whole: there is nothing to hold back."""

    def sending_resumed(self) -> None:
        """Likewise."""

    def refuse(self, _status: int, error: SluiceError) -> None:
        self._ended(self._call, self.started, error)

    def break_off(self) -> None:
        """Nothing was passed on before all of the answer was there, so `refuse` comes instead."""


def request_bytes(call: QueuedCall, attempts: int, body: bytes) -> bytes:
    """The request of an attempt. attempts: as many as there may be.

    From the second attempt on the function is told which it is, as OpenFaaS's worker does.
    """
    retry = b""
    if call.attempt > 1:
        retry = b"x-retry: %d\r\nx-retry-max: %d\r\n" % (call.attempt - 1, attempts - 1)
    return b"".join((call.request.head, retry, b"\r\n", body))
