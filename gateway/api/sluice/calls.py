"""Routes of queued calls: list, describe, result, replay, delete, cancel."""

import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from gateway.api.control import ControlPlane
from gateway.api.requests import function_id, shown
from gateway.queue.call import CallState, CallView, Payload
from gateway.queue.callback_targets import without_password
from gateway.queue.service import CallQueue
from gateway.queue.store import Filter
from gateway.types.errors import InvalidRequestError, NotFoundError

LOG: Final = logging.getLogger(__name__)

MOST_LISTED: Final = 1000
LIMIT: Final = re.compile(r"[0-9]{1,4}")
STATES: Final = {state.name.lower(): state for state in CallState}
# A result is data: no browser may run it under this origin, whatever type the function gave.
RESULT_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "content-disposition": "attachment",
    "content-security-policy": "sandbox",
}


def routes(control: ControlPlane, queue: CallQueue) -> APIRouter:
    """Routes of /system/calls and the DELETE of /async-function/ID."""
    router = APIRouter()
    handlers = _Calls(control, queue)
    one = "/system/calls/{call}"
    router.add_api_route("/system/calls", handlers.list, methods=["GET"])
    router.add_api_route(one, handlers.describe, methods=["GET"])
    router.add_api_route(one, handlers.delete, methods=["DELETE"])
    router.add_api_route(f"{one}/result", handlers.result, methods=["GET"])
    router.add_api_route(f"{one}/replay", handlers.replay, methods=["POST"])
    router.add_api_route("/async-function/{call}", handlers.cancel, methods=["DELETE"])
    return router


class _Calls:
    def __init__(self, control: ControlPlane, queue: CallQueue) -> None:
        self._control, self._queue = control, queue

    async def list(self, request: Request) -> Response:
        views = await self._queue.calls(_filter(request))
        return JSONResponse([_rendered(view) for view in views])

    async def describe(self, request: Request, call: str) -> Response:
        view = await self._queue.call(call)
        request_payload = await self._queue.request(call)
        response = await self._queue.response(call)
        return JSONResponse(_rendered(view) | _request(request_payload) | _response(response))

    async def result(self, request: Request, call: str) -> Response:
        view = await self._queue.call(call)
        response = await self._queue.response(call)
        if response is None:
            why = f": {view.reason}" if view.reason else ""
            state = view.state.name.lower()
            raise NotFoundError(f"call {call}: no function's answer is there, it is {state}{why}")
        headers = {
            **RESULT_HEADERS,
            "x-call-id": view.id,
            "x-function-name": view.function,
            "x-function-status": str(view.status),
            "x-duration-seconds": f"{view.seconds or 0.0:.6f}",
        }
        given = dict(_pairs(response.head))
        if "content-encoding" in given:
            headers["content-encoding"] = given["content-encoding"]
        kind = given.get("content-type", "application/octet-stream")
        if response.blob:
            return FileResponse(self._queue.body_path(response), headers=headers, media_type=kind)
        headers["content-type"] = kind
        return Response(response.body, headers=headers)

    async def replay(self, request: Request, call: str) -> Response:
        await self._queue.replay(call)
        LOG.info("replayed call=%s", call)
        return JSONResponse({"id": call}, status_code=202)

    async def delete(self, request: Request, call: str) -> Response:
        await self._queue.delete(call)
        LOG.info("deleted call=%s", call)
        return Response(status_code=204)

    async def cancel(self, request: Request, call: str) -> Response:
        await self._queue.cancel(call)
        LOG.info("cancelled call=%s", call)
        return Response(status_code=202)


def _filter(request: Request) -> Filter:
    query = request.query_params
    state = query.get("state", "")
    if state and state not in STATES:
        raise InvalidRequestError(f"state: expected one of {', '.join(STATES)}, got {shown(state)}")
    limit = query.get("limit", "100")
    if not LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MOST_LISTED:
        raise InvalidRequestError(
            f"limit: expected a number from 1 to {MOST_LISTED}, got {shown(limit)}"
        )
    function = query.get("function", "")
    if function:
        function = str(function_id(function, query.get("namespace")))
    return Filter(function, STATES.get(state), query.get("after", ""), int(limit))


def _rendered(view: CallView) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": view.id,
        "function": view.function,
        "state": view.state.name.lower(),
        "acceptedAt": _time(view.accepted),
        "attempts": view.attempts,
        "bytes": view.size,
    }
    if view.state is CallState.QUEUED:
        document["dueAt"] = _time(view.due)
    if view.callback:
        document["callback"] = without_password(view.callback)
        document["callbackState"] = view.callback_state or "not yet"
    if view.status is not None:
        document["status"] = view.status
        document["seconds"] = view.seconds
    if view.reason:
        document["reason"] = view.reason
    if view.finished is not None:
        document["finishedAt"] = _time(view.finished)
    return document


def _request(payload: Payload | None) -> dict[str, Any]:
    if payload is None:
        return {}
    first = payload.head.partition(b"\r\n")[0].decode("latin-1")
    method, _, rest = first.partition(" ")
    return {"method": method, "path": rest.rpartition(" ")[0], "requestBytes": payload.size}


def _response(payload: Payload | None) -> dict[str, Any]:
    return {} if payload is None else {"resultBytes": payload.size}


def _pairs(head: bytes) -> list[tuple[str, str]]:
    lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n") if line]
    return [(name, value) for name, _, value in lines]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
