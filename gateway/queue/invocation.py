"""A function called from the queue: the stored head is sent as it is, the response collected."""

from collections.abc import Callable

from gateway.proxy.call import CallContext
from gateway.proxy.collected_call import CollectedCall, CollectedResponse
from gateway.proxy.routes import Route
from gateway.queue.call import QueuedCall
from gateway.types.errors import SluiceError

Ended = Callable[[QueuedCall, float, CollectedResponse | SluiceError], None]


class QueuedInvocation(CollectedCall):
    """Calls `ended` once, without a task or future. data: the request's bytes."""

    def __init__(
        self, context: CallContext, route: Route, call: QueuedCall, data: bytes, ended: Ended
    ) -> None:
        method = call.request.head[: call.request.head.index(b" ")].decode("ascii")
        super().__init__(context, route, method, data)
        self._call, self._ended = call, ended

    def collected(self, response: CollectedResponse) -> None:
        self._ended(self._call, self.started, response)

    def refuse(self, _status: int, error: SluiceError) -> None:
        self._ended(self._call, self.started, error)


def request_bytes(call: QueuedCall, attempts: int, body: bytes) -> bytes:
    """The request of an attempt. attempts: how many there may be.

    From the second attempt on it carries its number, as OpenFaaS's queue worker sends it.
    """
    retry = b""
    if call.attempt > 1:
        retry = b"x-retry: %d\r\nx-retry-max: %d\r\n" % (call.attempt - 1, attempts - 1)
    return b"".join((call.request.head, retry, b"\r\n", body))
