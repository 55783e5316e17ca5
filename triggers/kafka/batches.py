"""Several records as one JSON array, and its answer taken apart again.

An element is the record's value: as it is where its content type is JSON, as a string where it
is text, as base64 otherwise, null for a tombstone. The answer is an array of the same length; an
element that is an object with a key `error` says that its record failed, and with `"retry": false`
beside it, that another try is of no use.
"""

import base64
import json
from typing import Any

from triggers.kafka.headers import Record, content_type_of
from triggers.kafka.outcomes import Done, Failed, Outcome

LONGEST_REASON = 500


class NotAnElementError(ValueError):
    """A value that its content type says is JSON, and is not; it would spoil the whole array."""


def element(record: Record, default_type: str) -> bytes:
    """The record's value as a JSON text. Raises NotAnElementError."""
    value = record.value
    if value is None:
        return b"null"
    kind = content_type_of(record, default_type) if record.headers else default_type
    kind = kind.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        try:
            json.loads(value)
        except ValueError as error:
            raise NotAnElementError(f"the value is not JSON: {error}") from error
        return value
    if kind.startswith("text/"):
        try:
            return json.dumps(value.decode()).encode()
        except UnicodeDecodeError as error:
            raise NotAnElementError(f"the value is not UTF-8: {error.reason}") from error
    return json.dumps(base64.b64encode(value).decode()).encode()


def array(elements: list[bytes]) -> bytes:
    """The body of the call."""
    return b"[" + b",".join(elements) + b"]"


def outcomes(body: bytes, count: int, wants_values: bool) -> list[Outcome]:
    """What became of each record by the function's 2xx answer; ValueError when it cannot be told.

    wants_values: whether results are published; else their bytes are left out.
    """
    try:
        values = json.loads(body)
    except ValueError as error:
        raise ValueError(f"the answer to a batch is not JSON: {error}") from error
    if not isinstance(values, list) or len(values) != count:
        got = f"{len(values)} elements" if isinstance(values, list) else type(values).__name__
        raise ValueError(f"expected an array of {count} results, got {got}")
    return [_outcome(value, wants_values) for value in values]


def _outcome(value: Any, wants_values: bool) -> Outcome:
    if isinstance(value, dict) and value.get("error") is not None:
        reason = str(value["error"])[:LONGEST_REASON]
        return Failed(reason, permanent=value.get("retry") is False)
    if not wants_values:
        return Done(b"", "")
    return Done(json.dumps(value, separators=(",", ":")).encode(), "application/json")
