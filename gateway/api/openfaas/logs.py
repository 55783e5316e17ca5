"""The log endpoint: lines that replicas wrote, once or followed."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.datastructures import QueryParams

from gateway.api.control import ControlPlane, StreamLimit
from gateway.api.openfaas import render
from gateway.api.requests import function_id, shown
from gateway.api.streams import NdjsonResponse, Until
from gateway.types.errors import InvalidRequestError, OverloadedError
from gateway.types.function import LogLine, LogQuery

INSTANCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
TAIL: Final = re.compile(r"[+-]?[0-9]{1,9}")
RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("", "0", "f", "F", "false", "FALSE", "False"), False),
}


class LogRequestError(InvalidRequestError):
    """A parameter of the log request does not fit."""

    status = 422

    def __init__(self, parameter: str, expected: str, got: str) -> None:
        super().__init__(
            f"could not parse the log request: {parameter}: expected {expected}, got {shown(got)}"
        )


def routes(control: ControlPlane) -> APIRouter:
    """Route of /system/logs."""
    router = APIRouter()
    slots = StreamLimit(control.settings.log_streams)

    @router.get("/system/logs")
    async def logs(request: Request) -> Response:
        query = parse(request.query_params)
        await control.provider.status(query.id)
        if not slots.take():
            raise OverloadedError(f"{control.settings.log_streams} log streams are open already")
        cleanup = AsyncExitStack()
        cleanup.callback(slots.give_back)
        return NdjsonResponse(
            _documents(control.provider.logs(query)),
            cleanup,
            Until(control.stopping, control.settings.log_stream_timeout),
        )

    return router


def parse(parameters: QueryParams) -> LogQuery:
    """The query that the parameters ask for; raises LogRequestError or NotFoundError."""
    name = parameters.get("name", "")
    if not name:
        raise LogRequestError("name", "a function", name)
    instance = parameters.get("instance", "")
    if instance and not INSTANCE.fullmatch(instance):
        raise LogRequestError("instance", "a replica's id", instance)
    return LogQuery(
        id=function_id(name, parameters.get("namespace")),
        instance=instance,
        tail=_tail(parameters.get("tail", "")),
        since=_since(parameters.get("since", "")),
        follow=_follow(parameters.get("follow", "")),
    )


def _tail(text: str) -> int | None:
    if not text:
        return None
    if not TAIL.fullmatch(text):
        raise LogRequestError("tail", "a whole number", text)
    return int(text) if int(text) > 0 else None


def _since(text: str) -> datetime | None:
    if not text:
        return None
    since = _moment(text) if RFC3339.fullmatch(text) else None
    if since is None:
        raise LogRequestError("since", "an RFC 3339 time", text)
    return since


def _moment(text: str) -> datetime | None:
    """The time of a text of the right form; None when there is no such day or hour."""
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _follow(text: str) -> bool:
    if text not in BOOLEANS:
        raise LogRequestError("follow", "true or false", text)
    return BOOLEANS[text]


async def _documents(lines: AsyncIterator[LogLine]) -> AsyncGenerator[dict[str, Any], None]:
    try:
        async for line in lines:
            yield render.log_document(line)
    finally:
        if isinstance(lines, AsyncGenerator):
            await lines.aclose()
