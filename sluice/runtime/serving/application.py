"""The http1 application of one function: reserved paths, the limit of calls at once, its calls."""

from collections.abc import Callable
from typing import Final, Protocol

from sluice.http1.exchange import Exchange, Receiver
from sluice.runtime.serving.call import TEXT, ServingState

REFUSED: Final = b"content-type: text/plain\r\nx-openfaas-internal: faas-middleware\r\n"
RESERVED: Final = b"/_/"


class Backend(Protocol):
    """What takes the calls: a handler, an ASGI app or a command."""

    def begin(self, serving: ServingState, exchange: Exchange) -> Receiver:
        """Begin a call; it holds a slot until it ends."""

    async def start(self) -> None:
        """Get ready for calls. Raises FunctionError."""

    async def close(self) -> bool:
        """End after the last call; false when something of it cannot be ended."""


class NullReceiver:
    """The receiver of a request that has been answered already."""

    def body_received(self, data: bytes) -> None: ...

    def body_complete(self) -> None: ...

    def client_gone(self) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


NULL_RECEIVER: Final = NullReceiver()


class Application:
    """Answers health, ready and metrics itself, 429 above max_inflight, and begins calls."""

    def __init__(self, serving: ServingState, backend: Backend) -> None:
        self._serving = serving
        self._begin = backend.begin
        self._pages: dict[bytes, Callable[[Exchange], None]] = {
            b"/_/health": self._health,
            b"/_/ready": self._ready,
            b"/_/metrics": self._metrics,
        }
        limit = serving.settings.max_inflight
        self._limit_text = (
            f"Concurrent request limit exceeded. Max concurrent requests: {limit}\n".encode()
        )

    def __call__(self, exchange: Exchange) -> Receiver:
        """Begin what the request asks for."""
        if exchange.path.startswith(RESERVED):
            page = self._pages.get(exchange.path)
            if page is not None:
                return self._reserved(exchange, page)
        serving = self._serving
        if serving.full():
            exchange.respond(429, REFUSED, self._limit_text)
            serving.metrics.observe(exchange.method, 429, 0.0)
            return NULL_RECEIVER
        return self._begin(serving, exchange)

    def _reserved(self, exchange: Exchange, page: Callable[[Exchange], None]) -> Receiver:
        if exchange.method == "GET":
            page(exchange)
        else:
            exchange.respond(405, b"allow: GET\r\n", b"")
        return NULL_RECEIVER

    def _health(self, exchange: Exchange) -> None:
        if self._serving.draining:
            exchange.respond(503, TEXT, b"draining\n")
        else:
            exchange.respond(200, TEXT, b"OK")

    def _ready(self, exchange: Exchange) -> None:
        serving = self._serving
        if serving.draining or serving.replacing:
            exchange.respond(503, TEXT, b"draining\n")
        elif serving.full():
            exchange.respond(429, REFUSED, self._limit_text)
        else:
            exchange.respond(200, b"", b"")

    def _metrics(self, exchange: Exchange) -> None:
        from sluice.runtime.serving import exposition  # noqa: PLC0415 - its library is not loaded by a cold start

        content_type = exposition.CONTENT_TYPE.encode()
        page = exposition.page(self._serving.metrics)
        exchange.respond(200, b"content-type: %b\r\n" % content_type, page)
