"""Reads requests into checked values: bodies with a limit, names, errors that name the field."""

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import Request

from gateway.types.errors import InvalidRequestError, NotFoundError
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId, parse_name

M = TypeVar("M", bound=BaseModel)

SHOWN_CHARACTERS: Final = 60
# Values of these fields are often credentials.
PRIVATE: Final = "envVars."

EXPECTED: Final = {
    "missing": "a value",
    "string_type": "a string",
    "string_unicode": "valid Unicode",
    "string_too_short": "a value that is not empty",
    "dict_type": "an object of strings",
    "list_type": "an array of strings",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "greater_than_equal": "a whole number, 0 or more",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


class BodyTooLargeError(InvalidRequestError):
    """The body is over the limit of the endpoint."""

    status = 413


class MalformedError(InvalidRequestError):
    """The body is not JSON."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises BodyTooLargeError past `limit` bytes, however it was sent."""
    check_length(request, limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        check_size(len(body), limit)
    return bytes(body)


def check_length(request: Request, limit: int) -> None:
    """Refuse a body that is announced as too long. Raises BodyTooLargeError."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLargeError(f"body: expected at most {limit} bytes, got {declared}")


def check_size(size: int, limit: int) -> None:
    """Refuse a body once it is too long. Raises BodyTooLargeError."""
    if size > limit:
        raise BodyTooLargeError(f"body: expected at most {limit} bytes, got more")


async def read_model(request: Request, model: type[M], limit: int) -> M:
    """The body as `model`, whatever its content type; raises InvalidRequestError.

    The text names the field, what was expected and what was sent; the value itself is left out for
    a `model` with hide_input_in_errors.
    """
    document = parse_json(await read_body(request, limit))
    try:
        return model.model_validate(document, strict=True)
    except ValidationError as error:
        hidden = bool(model.model_config.get("hide_input_in_errors"))
        details = error.errors(include_url=False, include_context=True)
        text = "; ".join(_describe(detail, hidden) for detail in details[:10])
        raise InvalidRequestError(text) from error


def parse_json(body: bytes) -> Any:
    """A JSON document; raises MalformedError with line and column."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedError(f"body: expected JSON, got: {error}") from error


def function_id(name: str, namespace: str | None) -> FunctionId:
    """The function that a request names; without a namespace, a name is split at its last dot.

    Raises NotFoundError for a name that no function can have.
    """
    found = FunctionId.parse(name, namespace or "")
    if not found.valid:
        raise NotFoundError(f"function {found} not found")
    return found


def namespace_of(request: Request, given: str | None = None) -> str:
    """The namespace of the query, else `given` from the body, else the default; checked."""
    namespace = request.query_params.get("namespace") or given or DEFAULT_NAMESPACE
    return check_name(namespace, "namespace")


def check_name(value: str, field: str) -> str:
    """`value`, if it may name a function or a namespace; else raises InvalidRequestError."""
    try:
        return parse_name(value)
    except ValueError as error:
        raise InvalidRequestError(f"{field}: expected {error}, got {shown(value)}") from error


def shown(value: Any) -> str:
    """What was sent, short enough for an error text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "..."
        return f"'{cut.encode('unicode_escape').decode()}'"
    if isinstance(value, int | float):
        return str(value)[:SHOWN_CHARACTERS]
    return "an array" if isinstance(value, list) else "an object"


def _describe(detail: ErrorDetails, hidden: bool) -> str:
    field = _field(detail["loc"])
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return f"{field}: expected a value, got nothing"
    if kind == "value_error":
        expected = str(detail["ctx"]["error"])
    else:
        expected = EXPECTED.get(kind, detail["msg"])
    came = type_of(value) if hidden or field.startswith(PRIVATE) else shown(value)
    return f"{field}: expected {expected}, got {came}"


def _field(location: tuple[int | str, ...]) -> str:
    """Where in the document; a bad key of an object is itself what was sent."""
    if location and location[-1] == "[key]":
        return f"{'.'.join(map(str, location[:-2]))} key"
    return ".".join(str(part)[:SHOWN_CHARACTERS] for part in location) or "body"


def type_of(value: Any) -> str:
    """The JSON type of what was sent, for values that must not be shown."""
    for kinds, name in (
        (bool, "a boolean"),
        (str, "a string"),
        (int | float, "a number"),
        (list, "an array"),
        (dict, "an object"),
    ):
        if isinstance(value, kinds):
            return name
    return "null"
