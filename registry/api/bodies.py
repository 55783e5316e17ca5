"""Request bodies (JSON within limits, streams) and Idempotency-Key; errors name each fault."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from registry.errors import InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from registry.idempotency import Claim
from service.errors import expected

B = TypeVar("B", bound=BaseModel)
KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
SHOWN: Final = 100  # characters of a bad value in an error
JSON_TYPES: Final = re.compile(r"application/(json|[\w.-]+\+json)|text/plain|")


def check_length(request: Request, limit: int) -> None:
    """Raises TooLargeError when Content-Length is over `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLargeError(f"body: expected at most {limit} bytes, got {announced}")


async def read_json(request: Request, limit: int) -> Any:
    """The body as JSON. Refuses NaN, infinities, NUL and lone surrogates: they cannot be stored.

    Raises InvalidRequestError, TooLargeError, UnsupportedMediaTypeError.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not JSON_TYPES.fullmatch(kind) and kind != "application/x-www-form-urlencoded":
        raise UnsupportedMediaTypeError(f"Content-Type: expected application/json, got {kind!r}")
    check_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"body: expected at most {limit} bytes, got more")
    return parse_json(bytes(body))


def parse_json(body: bytes) -> Any:
    """The JSON value of `body`. Raises InvalidRequestError."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except RecursionError:
        raise InvalidRequestError("body: expected JSON, got too many levels") from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(
            f"body: expected JSON, {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"body: expected UTF-8, byte {error.start} is not") from None
    except ValueError as error:
        raise InvalidRequestError(f"body: expected JSON in UTF-8, {error}") from None
    if "\\u0000" in text:
        raise InvalidRequestError("body: expected text without NUL characters")
    return value


async def read_body(request: Request, limit: int, model: type[B]) -> B:
    """The body as `model`. Raises InvalidRequestError naming each invalid field."""
    return validate(await read_json(request, limit), model)


def validate(value: Any, model: type[B]) -> B:
    """`value` as `model`. Raises InvalidRequestError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False)[:5]]
        raise InvalidRequestError("; ".join(faults)) from None


def _fault(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "body"
    if fault["type"] == "missing":
        return f"{where}: expected a value, it is missing"
    if fault["type"] == "extra_forbidden":
        return f"{where}: no field of that name"
    return f"{where}: {expected(fault)}, got {_shown(fault['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def claim_of(request: Request, content: Any) -> Claim | None:
    """The request's claim to its Idempotency-Key, None without that header.

    content: the parsed JSON body, or the digest of a streamed body. It is hashed together with
    the query; the key is scoped to method and path. Raises InvalidRequestError for a malformed key.
    """
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not KEY.fullmatch(keys[0]):
        raise InvalidRequestError(
            "Idempotency-Key: expected one of 1 to 255 printable ASCII characters"
        )
    asked = [sorted(request.query_params.multi_items()), content]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return Claim(f"{request.method} {request.url.path}", keys[0], digest)


async def stream(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body's chunks. Raises TooLargeError, at once when Content-Length is over `limit`."""
    check_length(request, limit)
    async for chunk in request.stream():
        yield chunk
