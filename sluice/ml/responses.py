"""Responses of a handler, in the form of OpenFaaS's python3-http: statusCode, headers, body."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from sluice.ml.errors import CallError, MethodError, UnavailableError
from sluice.ml.fields import json_object
from sluice.ml.registry import Keys
from sluice.runtime.python.event import Event

Reply = dict[str, Any]
Work = Callable[[dict[str, Any], Keys], Mapping[str, Any]]


def json_reply(status: int, body: Mapping[str, Any]) -> Reply:
    """A response with a JSON body. Raises ValueError for a NaN, which JSON cannot hold."""
    return {
        "statusCode": int(status),
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(body, allow_nan=False).encode(),
    }


def error_reply(error: CallError) -> Reply:
    """`{"error": message}` and the error's details, with its status; Retry-After where a later try
    may succeed.
    """
    reply = json_reply(error.status, {"error": error.message, **error.details})
    if isinstance(error, UnavailableError):
        reply["headers"]["Retry-After"] = "1"
    return reply


def respond(event: Event, work: Work) -> Reply:
    """The response to a POST of a JSON object: what `work` makes of it, or its error."""
    try:
        if event.method != "POST":
            raise MethodError(f"expected POST, got {event.method}")
        return json_reply(
            200, work(json_object(event.body), Keys(event.headers.get("idempotency-key", "")))
        )
    except CallError as error:
        return error_reply(error)
