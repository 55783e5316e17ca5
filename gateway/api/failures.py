"""Which status each of our errors is, and the plain texts OpenFaaS answers with."""

import logging
import os
import sqlite3
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.api.openfaas.logs import LogRequestError
from gateway.api.requests import BodyTooLargeError
from gateway.types import errors

LOG: Final = logging.getLogger(__name__)

# Looked up along the error's own line of descent, so the closest class wins.
STATUS: Final[dict[type[Exception], int]] = {
    BodyTooLargeError: 413,
    LogRequestError: 422,
    errors.InvalidRequestError: 400,
    errors.NotFoundError: 404,
    errors.AlreadyExistsError: 409,
    errors.ForbiddenError: 403,
    errors.NotSupportedError: 501,
    errors.UnavailableError: 503,
    errors.DiskFullError: 507,
    errors.OverloadedError: 429,
    errors.DeadlineExceededError: 504,
    errors.UpstreamError: 502,
    errors.SluiceError: 500,
}


def install(app: FastAPI) -> None:
    """Answer our errors, unknown paths and wrong methods in text."""
    app.add_exception_handler(errors.SluiceError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OSError, _storage)
    app.add_exception_handler(sqlite3.Error, _storage)


def status_of(error: Exception) -> int:
    """The status of an error of ours."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _ours(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), status_code=status_of(error))


def _storage(request: Request, error: Exception) -> Response:
    """What the data folder refused; its paths are for the log only."""
    LOG.error("storage failed: %s %s", request.method, request.url.path, exc_info=error)
    if _is_full(error):
        return PlainTextResponse("the gateway's disk is full: nothing was changed\n", 507)
    cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "storage"
    return PlainTextResponse(f"the gateway's data folder cannot be used: {cause}\n", 500)


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in errors.DISK_FULL
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return PlainTextResponse("404 page not found\n", status_code=404)
    headers = error.headers if isinstance(error, HTTPException) else None
    return Response(status_code=status, headers=headers)


def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads it: the client left before its request was whole."""
    return Response(status_code=400)
