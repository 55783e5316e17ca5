"""The input of a run as it comes from outside."""

import json
from typing import Any

from triggers.errors import InvalidRequestError


def read_json(body: bytes) -> Any:
    """The body as JSON. Raises InvalidRequestError saying where it is none."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"input: expected UTF-8, byte {error.start} is not") from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(
            f"input: expected JSON, {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"input: expected JSON, {error}") from None
    if "\0" in body.decode() or "\\u0000" in body.decode():
        raise InvalidRequestError("input: expected text without NUL characters")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
