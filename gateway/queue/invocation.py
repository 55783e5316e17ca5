"""A function called from the queue: the stored head goes out as it is, the answer is collected."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.proxy.collected_call import CollectedCall
from gateway.proxy.routes import Route
from gateway.queue.call import QueuedCall
from gateway.types.errors import SluiceError

if TYPE_CHECKING:
    from gateway.proxy.invoker import Invoker


@dataclass(frozen=True, slots=True)
class FunctionResponse:
    """What a function answered; hop-by-hop headers are left out."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


Ended = Callable[[QueuedCall, float, FunctionResponse | SluiceError], None]


class QueuedInvocation(CollectedCall):
    """Calls back once, without a task or future. data: the request's bytes."""

    def __init__(
        self, invoker: "Invoker", route: Route, call: QueuedCall, data: bytes, ended: Ended
    ) -> None:
        method = call.request.head[: call.request.head.index(b" ")].decode("ascii")
        super().__init__(invoker, route, method, data)
        self._call, self._ended = call, ended

    def collected(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._ended(self._call, self.started, FunctionResponse(status, headers, body))

    def refuse(self, _status: int, error: SluiceError) -> None:
        self._ended(self._call, self.started, error)


def request_bytes(call: QueuedCall, attempts: int, body: bytes) -> bytes:
    """The request of an attempt. attempts: as many as there may be.

    From the second attempt on the function is told which it is, as OpenFaaS's worker does.
    """
    retry = b""
    if call.attempt > 1:
        retry = b"x-retry: %d\r\nx-retry-max: %d\r\n" % (call.attempt - 1, attempts - 1)
    return b"".join((call.request.head, retry, b"\r\n", body))
