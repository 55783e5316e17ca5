"""Makes the HTTP response of what a handler returned.

Forms: None, str, bytes, anything that JSON has (numpy's scalars and arrays too), a dict with
statusCode, body or headers, (body, status), (body, status, headers), (body, headers). Any body may
be a generator or async generator, which is streamed.
"""

import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

TEXT: Final = b"content-type: text/plain; charset=utf-8\r\n"
JSON: Final = b"content-type: application/json\r\n"
JSON_LINES: Final = b"content-type: application/x-ndjson\r\n"
BINARY: Final = b"content-type: application/octet-stream\r\n"
ENVELOPE: Final = frozenset({"body", "headers", "statusCode"})
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FORBIDDEN_IN_VALUES: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# The server frames the response; a handler's own framing headers are dropped.
FRAMING: Final = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
BYTES_LIKE: Final = (bytes, bytearray, memoryview)


class InvalidResponseError(Exception):
    """A handler returned what cannot be a response; the message says what it returned."""


@dataclass(slots=True)
class Response:
    """A whole response; `lines` are rendered header lines."""

    status: int
    lines: bytes
    body: bytes


@dataclass(slots=True)
class StreamingResponse:
    """A response whose body is still to be made; `typed` when `lines` has a content type."""

    status: int
    lines: bytes
    items: Iterator[object] | AsyncIterator[object]
    typed: bool


def render(result: object) -> Response | StreamingResponse:
    """The response for a handler's result. Raises InvalidResponseError."""
    kind = type(result)
    if kind is bytes:
        return Response(200, BINARY, result)  # type: ignore[arg-type]  # by the line above
    if kind is dict:
        return _from_dict(result)  # type: ignore[arg-type]  # likewise
    if result is None:
        return Response(200, b"", b"")
    if isinstance(result, dict):
        return _from_dict(result)
    if isinstance(result, tuple):
        return _from_tuple(result)
    return _response(result, 200, None)


def _from_dict(result: dict[object, object]) -> Response | StreamingResponse:
    if _is_envelope(result):
        return _response(result.get("body"), result.get("statusCode", 200), result.get("headers"))
    return Response(200, JSON, to_json(result))


def encode_item(item: object) -> tuple[bytes, bytes]:
    """The bytes of one streamed item, and the content type line of a stream of such items.

    Text and bytes go out as they are, anything else as a line of JSON. Raises InvalidResponseError.
    """
    if isinstance(item, str):
        return _utf8(item), TEXT
    if isinstance(item, BYTES_LIKE):
        return bytes(item), BINARY
    return to_json(item) + b"\n", JSON_LINES


def to_json(value: object) -> bytes:
    """`value` as compact JSON; NaN and infinities are refused. Raises InvalidResponseError."""
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResponseError(f"{_kind(value)} is not JSON: {error}") from error


def _is_envelope(result: dict[object, object]) -> bool:
    """Whether a dict holds statusCode, body and headers rather than being the JSON to send."""
    return "statusCode" in result or (bool(result) and ENVELOPE.issuperset(result))


def _from_tuple(result: tuple[Any, ...]) -> Response | StreamingResponse:
    match result:
        case (body, int() as status):
            return _response(body, status, None)
        case (body, int() as status, headers):
            return _response(body, status, headers)
        case (body, dict() | list() as headers):
            return _response(body, 200, headers)
    kinds = ", ".join(_kind(part) for part in result)
    raise InvalidResponseError(
        f"a tuple of ({kinds}) came: expected (body, status), (body, status, headers) "
        "or (body, headers)"
    )


def _response(body: object, status: object, headers: object) -> Response | StreamingResponse:
    number = _status(status)
    lines, typed = _header_lines(headers) if headers is not None else (b"", False)
    if isinstance(body, Iterator | AsyncIterator):
        return StreamingResponse(number, lines, body, typed)
    content, content_type = _body(body)
    return Response(number, lines if typed else lines + content_type, content)


def _body(body: object) -> tuple[bytes, bytes]:
    """A body's bytes, and its content type line unless the handler gave one."""
    if body is None:
        return b"", b""
    if isinstance(body, str):
        return _utf8(body), TEXT
    if isinstance(body, BYTES_LIKE):
        return bytes(body), BINARY
    if inspect.isawaitable(body):
        raise InvalidResponseError(f"{_kind(body)} came as a body: it was not awaited")
    return to_json(body), JSON


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidResponseError(
            f"text came that is not Unicode at character {error.start}"
        ) from error


def _status(status: object) -> int:
    if type(status) is int and 200 <= status <= 599:
        return status
    number = _plain_or_same(status)
    if isinstance(number, str) and number.isdecimal():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 200 <= number <= 599:
        raise InvalidResponseError(
            f"status {status!r} came: expected a whole number from 200 to 599"
        )
    return number


def _header_lines(headers: object) -> tuple[bytes, bool]:
    """Rendered header lines, and whether a content type is among them."""
    if isinstance(headers, Mapping):
        pairs = list(headers.items())
    elif isinstance(headers, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in headers
    ):
        pairs = list(headers)
    else:
        raise InvalidResponseError(f"headers came as {_kind(headers)}: expected a dict or pairs")
    lines: list[bytes] = []
    typed = False
    for name, value in pairs:
        key = str(name).lower()
        if key in FRAMING:
            continue
        typed = typed or key == "content-type"
        values = value if isinstance(value, list | tuple) else [value]
        lines.extend(_line(str(name), key, str(one)) for one in values)
    return b"".join(lines), typed


def _line(name: str, key: str, value: str) -> bytes:
    if not TOKEN.fullmatch(key):
        raise InvalidResponseError(
            f"header name {name!r} came: expected letters, digits and hyphens"
        )
    if FORBIDDEN_IN_VALUES.search(value):
        raise InvalidResponseError(f"header {name} has a control character in its value")
    try:
        return f"{key}: {value.strip()}\r\n".encode("latin-1")
    except UnicodeEncodeError as error:
        raise InvalidResponseError(f"header {name} has a character outside latin-1") from error


def _plain(value: object) -> object:
    """A numpy scalar or array as JSON has it, without importing numpy."""
    plain = _plain_or_same(value)
    if plain is value:
        raise TypeError(f"{_kind(value)} has no JSON form")
    return plain


_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
)


def _plain_or_same(value: object) -> object:
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else value


def _kind(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
