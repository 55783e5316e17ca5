"""A call whose request is in memory whole and whose answer is collected before it is given on."""

import time
from abc import abstractmethod
from typing import TYPE_CHECKING

from gateway.proxy.call import Call
from gateway.proxy.routes import Route
from gateway.types.errors import UpstreamError
from sluice.http1.client import ClientConnection
from sluice.http1.wire import HOP_BY_HOP

if TYPE_CHECKING:
    from gateway.proxy.invoker import Invoker


class CollectedCall(Call):
    """Holds the answer up to the gateway's bound, then hands it to `collected` in one piece."""

    def __init__(self, invoker: "Invoker", route: Route, method: str, data: bytes) -> None:
        super().__init__(invoker, route, time.monotonic())
        self.method, self.data = method, data
        self._status, self._size = 0, 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []

    @abstractmethod
    def collected(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Take the whole answer, its hop-by-hop headers left out."""

    def send(self, connection: ClientConnection) -> None:
        connection.send(self.data, self, self.method == "HEAD")

    def response_started(
        self, status: int, _reason: bytes, headers: list[tuple[bytes, bytes]], _length: int | None
    ) -> None:
        self.response_begun = True
        self._status = status
        self._headers = [pair for pair in headers if pair[0] not in HOP_BY_HOP]

    def response_body(self, data: bytes) -> None:
        if self.finished:
            return
        self._size += len(data)
        self._pieces.append(data)
        limit = self.invoker.response_bytes
        if self._size > limit:
            error = UpstreamError(f"{self.route.name}: answer over {limit} bytes")
            self.fail(error, time.monotonic())

    def response_complete(self, reusable: bool) -> None:
        if self.finished:
            return
        self.complete(self._status, reusable, time.monotonic())
        self.collected(self._status, self._headers, b"".join(self._pieces))

    def sending_paused(self) -> None:
        """The request is in memory whole: there is nothing to hold back."""

    def sending_resumed(self) -> None:
        """Likewise."""

    def break_off(self) -> None:
        """Nothing was passed on before all of the answer was there, so `refuse` comes instead."""
