"""Failures as JSON responses: {"error": text} with the status of the error's class."""

import logging
import re
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

FAULTS: Final = 5  # listed per request
log = logging.getLogger(__name__)


class ServiceError(Exception):
    """An error whose text may be shown to a caller: it names the fault and contains no secret.

    details: keys of the response in addition to `error`.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.details = details


class CallError(ServiceError):
    """A call that got no response."""

    status = 502


class GatewayUnavailableError(CallError):
    """The gateway could not be reached, or closed the connection before its response was complete.

    The function may have been called: repeat with the same Idempotency-Key.
    """

    status = 503


class CallTimeoutError(CallError):
    """No complete response in time; the connection was closed so that the function notices."""

    status = 504


class ResponseTooLargeError(CallError):
    """The response is longer than the caller allows."""


def install_errors(app: FastAPI) -> None:
    """Turn every failure into a JSON response; the text of an unexpected one is only logged."""
    app.add_exception_handler(ServiceError, respond_service_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, respond_unexpected)


async def respond_service_error(_: Request, error: Exception) -> JSONResponse:
    """The response to a ServiceError."""
    status = error.status if isinstance(error, ServiceError) else 500
    details = error.details if isinstance(error, ServiceError) else {}
    headers = {"Retry-After": "5"} if status == 503 else None
    return JSONResponse({"error": str(error), **details}, status, headers)


async def respond_unexpected(request: Request, error: Exception) -> JSONResponse:
    """500 with an incident number that identifies the error in the log."""
    incident = secrets.token_hex(6)
    log.error(
        "event=failed incident=%s method=%s path=%s",
        incident,
        request.method,
        request.url.path,
        exc_info=error,
    )
    return JSONResponse({"error": f"the service failed, its log has incident {incident}"}, 500)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse({"error": "; ".join(_fault(fault) for fault in faults[:FAULTS])}, 400)


def _fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {expected(fault)}, got {repr(fault.get('input'))[:100]}"


def expected(fault: Mapping[str, Any]) -> str:
    """The expected value, from one of pydantic's validation errors."""
    if fault["type"] == "string_pattern_mismatch":
        return f"expected text that matches {fault['ctx']['pattern']}"
    if fault["type"] == "missing":
        return "expected a value"
    if fault["type"] == "extra_forbidden":
        return "expected nothing of that name"
    said = str(fault["msg"]).partition(", ")[0]
    return re.sub(
        r"^(Input|String|Value|List|Dictionary|Number) should (be|have) ", "expected ", said
    )


async def _http(_: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": str(detail).lower()}, status, dict(headers or {}))


async def _gone(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse(
        {"error": "the body ended before its end"}, 400
    )  # the client is gone; Starlette wants a response
