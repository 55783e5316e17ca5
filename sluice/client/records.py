"""JSON objects of the gateway as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from sluice.client.errors import ClientError

T = TypeVar("T")


def read(kind: type[T], document: Any, camel: bool = False, **given: Any) -> T:
    """An instance of `kind` from the keys of `document` that are its fields; the rest is ignored.

    camel: the keys are written in camelCase. given: fields that were made already. A field
    without a default must be there: raises ClientError naming it.
    """
    if not isinstance(document, Mapping):
        raise ClientError(f"expected a JSON object for {kind.__name__}, got {document!r:.60}")
    values = dict(given)
    for one in fields(kind):  # type: ignore[arg-type] # every kind is a dataclass
        key = _camel(one.name) if camel else one.name
        if one.name in values:
            continue
        if key in document:
            values[one.name] = _frozen(document[key])
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _lacks(key)
    return kind(**values)


def value_of(document: Mapping[str, Any], key: str) -> Any:
    """The value of a key that must be there. Raises ClientError naming it."""
    if key not in document:
        raise _lacks(key)
    return document[key]


def _lacks(key: str) -> ClientError:
    return ClientError(f"the response has no {key!r}: is this the URL of a Sluice gateway?")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
