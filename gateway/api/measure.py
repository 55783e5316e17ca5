"""Metrics of the REST API under the provider's names: count and duration of requests."""

from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX: Final = "/system/"
METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"})


class Measure:
    """An ASGI application that counts the responses of `app` under /system/.

    The label path is the route's template, so that names in paths add no series.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        labels = ("code", "method", "path")
        self._app = app
        self._requests = Counter(
            "provider_http_requests", "Total number of HTTP requests.", labels, registry=registry
        )
        self._seconds = Histogram(
            "provider_http_request_duration_seconds",
            "Seconds spent serving HTTP requests.",
            labels,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        begun, code = perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self._count(scope, code, perf_counter() - begun)

    def _count(self, scope: Scope, code: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        path = getattr(scope.get("route"), "path", "unmatched")
        self._requests.labels(str(code), method.lower(), path).inc()
        self._seconds.labels(str(code), method.lower(), path).observe(seconds)
