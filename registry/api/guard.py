"""Middleware that checks the identity and measures requests, and the JSON error handlers."""

import logging
import time

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import StorageFullError
from registry.metrics import RegistryMetrics
from service import errors
from service.identity import OPEN_PATHS, UNAUTHENTICATED, identity_in

DISK_FULL = ("disk is full", "No space left on device")  # messages of SQLite and PostgreSQL
log = logging.getLogger(__name__)


class Guard:
    """Refuses requests that did not come through the gateway; counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: RegistryMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            identity = identity_in(scope["headers"])
            if identity is None and scope["path"] not in OPEN_PATHS:
                await JSONResponse({"error": UNAUTHENTICATED}, 401)(scope, receive, watched)
                return
            scope.setdefault("state", {})["identity"] = identity
            await self._app(scope, receive, watched)
        finally:
            self._count(scope, status, time.monotonic() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Label by route, not path: names chosen by callers must not create series.
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(scope["method"], route, status).inc()
        self._metrics.seconds.labels(scope["method"], route).observe(seconds)


def install_errors(app: FastAPI) -> None:
    """Turn every failure into a response {"error": text}; a full disk becomes 507."""
    errors.install_errors(app)
    app.add_exception_handler(StorageFullError, _full)
    app.add_exception_handler(OperationalError, _database)


async def _full(request: Request, error: Exception) -> JSONResponse:
    log.warning("event=disk-full")
    return await errors.respond_service_error(request, error)


async def _database(request: Request, error: Exception) -> JSONResponse:
    if any(words in str(error) for words in DISK_FULL):
        return await _full(request, StorageFullError("the registry's disk has no room for this"))
    return await errors.respond_unexpected(request, error)
