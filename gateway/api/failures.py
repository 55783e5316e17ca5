"""Exceptions as responses: our errors with their own status, and the plain texts of OpenFaaS."""

import logging
import os
import sqlite3
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.types.errors import DISK_FULL, SluiceError

LOG: Final = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Respond in plain text to our errors, unknown paths and wrong methods."""
    app.add_exception_handler(SluiceError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OSError, _storage)
    app.add_exception_handler(sqlite3.Error, _storage)


def _ours(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, SluiceError) else SluiceError.status
    return PlainTextResponse(str(error), status_code=status)


def _storage(request: Request, error: Exception) -> Response:
    """A failure of the data folder; its paths are for the log only."""
    LOG.error("storage failed: %s %s", request.method, request.url.path, exc_info=error)
    if _is_full(error):
        return PlainTextResponse("the gateway's disk is full: nothing was changed\n", 507)
    cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "storage"
    return PlainTextResponse(f"the gateway's data folder cannot be used: {cause}\n", 500)


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return PlainTextResponse("404 page not found\n", status_code=404)
    headers = error.headers if isinstance(error, HTTPException) else None
    return Response(status_code=status, headers=headers)


def _gone(request: Request, error: Exception) -> Response:
    """The client left before its request was complete, so nobody reads this response."""
    return Response(status_code=400)
