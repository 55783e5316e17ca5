"""In front of every route: who asks, how long it took, and errors as the API's JSON."""

import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import RegistryError, StorageFullError, UnauthenticatedError
from registry.metrics import RegistryMetrics

IDENTITIES = {b"admin", b"function"}
OPEN = {"/healthz", "/metrics"}
DISK_FULL = ("disk is full", "No space left on device")  # SQLite's words and PostgreSQL's
log = logging.getLogger(__name__)


class Guard:
    """Refuses requests that did not come through the gateway and counts all of them."""

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
            if identity is None and scope["path"] not in OPEN:
                await _unauthenticated()(scope, receive, watched)
                return
            scope.setdefault("state", {})["identity"] = identity
            await self._app(scope, receive, watched)
        finally:
            self._count(scope, status, time.monotonic() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # The route, not the path: one series a route, whatever names callers choose.
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(scope["method"], route, status).inc()
        self._metrics.seconds.labels(scope["method"], route).observe(seconds)


def identity_in(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Who the gateway says that the caller is; None for nobody or more than one."""
    found = [value for name, value in headers if name == b"x-sluice-identity"]
    return found[0].decode() if len(found) == 1 and found[0] in IDENTITIES else None


def _unauthenticated() -> JSONResponse:
    message = "expected a request through the gateway, which says who asks"
    return JSONResponse({"error": message}, UnauthenticatedError.status)


def install_errors(app: FastAPI) -> None:
    """Answer every failure as {"error": text}; what is not expected keeps its text in the log."""
    app.add_exception_handler(RegistryError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(Exception, _unknown)


async def _known(_: Request, error: Exception) -> JSONResponse:
    details = error.details if isinstance(error, RegistryError) else {}
    status = error.status if isinstance(error, RegistryError) else 500
    headers = {"Retry-After": "5"} if status == 503 else None
    if isinstance(error, StorageFullError):
        log.warning("event=disk-full")
    return JSONResponse({"error": str(error), **details}, status, headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse({"error": "; ".join(_fault(fault) for fault in faults[:5])}, 400)


def _fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}, got {repr(fault.get('input'))[:100]}"


async def _http(_: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": str(detail).lower()}, status, dict(headers or {}))


async def _gone(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "the body ended before its end"}, 400)  # to nobody


async def _database(request: Request, error: Exception) -> JSONResponse:
    if any(words in str(error) for words in DISK_FULL):
        return await _known(request, StorageFullError("the registry's disk has no room for this"))
    return await _unknown(request, error)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    incident = secrets.token_hex(6)
    log.error(
        "event=failed incident=%s method=%s path=%s",
        incident,
        request.method,
        request.url.path,
        exc_info=error,
    )
    return JSONResponse({"error": f"the registry failed, its log has incident {incident}"}, 500)
