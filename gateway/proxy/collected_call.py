"""A call whose request is in memory complete and whose response is collected before it is used."""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.proxy.call import FINISHED, RESPONSE_STARTED, Call, CallContext
from gateway.proxy.routes import Route
from gateway.types.errors import UpstreamError
from sluice.http1.client import ClientConnection
from sluice.http1.wire import HOP_BY_HOP


@dataclass(frozen=True, slots=True)
class CollectedResponse:
    """A function's response, whatever its status, without its hop-by-hop headers."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class CollectedCall(Call):
    """Holds the response up to the gateway's bound, then hands it to `collected` in one piece."""

    def __init__(self, context: CallContext, route: Route, method: str, data: bytes) -> None:
        super().__init__(context, route, time.monotonic())
        self.method, self.data = method, data
        self._status, self._size = 0, 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []

    @abstractmethod
    def collected(self, response: CollectedResponse) -> None:
        """Take the complete response."""

    def send(self, connection: ClientConnection) -> None:
        connection.send(self.data, self, self.method == "HEAD")

    def response_started(
        self, status: int, _reason: bytes, headers: list[tuple[bytes, bytes]], _length: int | None
    ) -> None:
        if self.phase is FINISHED:
            return
        self.phase = RESPONSE_STARTED
        self._status = status
        self._headers = [pair for pair in headers if pair[0] not in HOP_BY_HOP]

    def response_body(self, data: bytes) -> None:
        if self.phase is FINISHED:
            return
        self._size += len(data)
        self._pieces.append(data)
        limit = self.context.response_bytes
        if self._size > limit:
            error = UpstreamError(f"{self.route.name}: answer over {limit} bytes")
            self.fail(error, time.monotonic())

    def response_complete(self, reusable: bool) -> None:
        if self.phase is FINISHED:
            return
        self.complete(self._status, reusable, time.monotonic())
        self.collected(CollectedResponse(self._status, self._headers, b"".join(self._pieces)))

    def sending_paused(self) -> None:
        """The request is in memory complete: there is nothing to hold back."""

    def sending_resumed(self) -> None:
        """See `sending_paused`."""

    def break_off(self) -> None:
        """Not called: the caller gets no part of a response before it is complete."""
