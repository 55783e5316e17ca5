"""The calls under way: their deadlines, their end, and `invoke` for callers inside the gateway.

Clients' exchanges become calls in gateway.proxy.router, queued calls in gateway.queue.invocation.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.metrics import Metrics
from gateway.proxy.activator import Activator
from gateway.proxy.call import CallContext
from gateway.proxy.client_call import call_id
from gateway.proxy.collected_call import CollectedCall, CollectedResponse
from gateway.proxy.connection_pool import ConnectionPool
from gateway.proxy.headers import USER_AGENT
from gateway.proxy.routes import Route
from gateway.settings import GatewaySettings
from gateway.types.errors import SluiceError, UpstreamError
from gateway.types.ids import FunctionId
from sluice.http1.wire import HOP_BY_HOP, header_lines

# Deadlines hold to a quarter of a second; a timer per call would cost it 2.6 us.
SWEEP_SECONDS: Final = 0.25
OWN_NAMES: Final = HOP_BY_HOP | {b"content-length", b"expect", b"x-call-id", b"x-start-time"}

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class InvocationRequest:
    """A request to a function. target: path and query as the function sees them."""

    method: str = "POST"
    target: bytes = b"/"
    headers: Pairs = ()
    body: bytes = b""


class Invoker:
    """Ends calls that take too long, and all of them when the gateway stops.

    context: what calls share. metrics: counts calls of functions that do not exist.
    """

    def __init__(
        self,
        activator: Activator,
        connection_pool: ConnectionPool,
        metrics: Metrics,
        settings: GatewaySettings,
    ) -> None:
        self.activator = activator
        self.metrics = metrics
        self.context = CallContext(
            activator, connection_pool, settings.call_timeout, settings.body_bytes
        )
        self._connection_pool = connection_pool
        self.calls = self.context.calls

    async def invoke(self, function: FunctionId, request: InvocationRequest) -> CollectedResponse:
        """The function's response. A cancelled caller cancels the call.

        Raises NotFoundError, OverloadedError, UnavailableError, DeadlineExceededError and, when
        the replica broke off or the response is too large, UpstreamError. ValueError for headers
        that cannot be sent.
        """
        route = self.activator.route(function)
        call = AwaitedCall(self.context, route, request)
        call.start(call.started)
        try:
            return await call.response
        finally:
            call.client_gone()

    def sweep(self, now: float) -> None:
        """End what has waited or run for too long. now: monotonic seconds."""
        self.activator.expire(now)
        for call in list(self.calls):
            if call.deadline <= now:
                call.expire(now)
        self._connection_pool.sweep(now)

    async def run(self) -> None:
        """Sweep until cancelled, then close every connection to replicas."""
        try:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                self.sweep(time.monotonic())
        finally:
            await self.close()

    async def close(self) -> None:
        """End every call and connection."""
        for call in list(self.calls):
            call.fail(UpstreamError(f"{call.route.name}: the gateway stops"), time.monotonic())
        await self._connection_pool.close()


class AwaitedCall(CollectedCall):
    """A call whose response is awaited."""

    def __init__(self, context: CallContext, route: Route, request: InvocationRequest) -> None:
        # Rendered before the call counts: headers that cannot be sent start nothing.
        data = _render(request)
        super().__init__(context, route, request.method, data)
        self.response: asyncio.Future[CollectedResponse] = (
            asyncio.get_running_loop().create_future()
        )

    def collected(self, response: CollectedResponse) -> None:
        if not self.response.done():
            self.response.set_result(response)

    def refuse(self, _status: int, error: SluiceError) -> None:
        if not self.response.done():
            self.response.set_exception(error)


def _render(request: InvocationRequest) -> bytes:
    headers = [pair for pair in request.headers if pair[0] not in OWN_NAMES]
    given = dict(request.headers)
    if b"host" not in given:
        headers.append((b"host", b"gateway"))
    if b"user-agent" not in given:
        headers.append((b"user-agent", USER_AGENT))
    headers.append((b"x-call-id", given.get(b"x-call-id") or call_id()))
    headers.append((b"x-start-time", b"%d" % time.time_ns()))
    headers.append((b"content-length", b"%d" % len(request.body)))
    lines = header_lines(headers)
    first = b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.target)
    return b"".join((first, lines, b"\r\n", request.body))
