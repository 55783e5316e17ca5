"""The fields of a JSON request, each checked by name, type and range."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NoReturn

from sluice.ml.errors import InvalidInputError

_REQUIRED: Final[Any] = object()
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")
ID: Final = re.compile(r"[0-9a-f]{1,64}")
ALIAS: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


def shown(value: object) -> str:
    """A value as an error shows it: JSON, at most 60 characters."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises InvalidInputError with line and column of what is wrong."""

    def refuse(literal: str) -> NoReturn:
        raise InvalidInputError(f"{literal} is not JSON; send null for a missing value")

    try:
        value = json.loads(body, parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the body is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInputError(f"the body is not JSON: {error.msg} at {where}") from error
    except RecursionError as error:
        raise InvalidInputError("the body is nested too deeply") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"expected a JSON object, got {shown(value)}")
    return value


class Fields:
    """Takes the fields of an object one by one; `done` refuses those that were not taken."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = dict(values)
        self._prefix = prefix
        self._taken: list[str] = []

    def text(self, name: str, default: Any = _REQUIRED) -> Any:
        """A text that is not empty, at most 256 characters."""
        return self._take(name, default, "a text of 1 to 256 characters", _short_text)

    def name(self, name: str, default: Any = _REQUIRED) -> Any:
        """A name as the registry takes them."""

        def fits(value: object) -> bool:
            return isinstance(value, str) and NAME.fullmatch(value) is not None

        return self._take(name, default, "letters, digits, '.', '_' and '-', at most 128", fits)

    def id(self, name: str, default: Any = _REQUIRED) -> Any:
        """The id of something that the registry keeps."""

        def fits(value: object) -> bool:
            return isinstance(value, str) and ID.fullmatch(value) is not None

        return self._take(name, default, "an id of up to 64 hexadecimal digits", fits)

    def integer(self, name: str, low: int, high: int, default: Any = _REQUIRED) -> Any:
        """An integer in [low, high]."""

        def fits(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

        return self._take(name, default, f"an integer from {low} to {high}", fits)

    def number(self, name: str, low: float, high: float, default: Any = _REQUIRED) -> Any:
        """A number in [low, high]."""

        def fits(value: object) -> bool:
            if not isinstance(value, int | float) or isinstance(value, bool):
                return False
            return math.isfinite(value) and low <= value <= high

        return self._take(name, default, f"a number from {low:g} to {high:g}", fits)

    def choice(self, name: str, options: Collection[Any], default: Any = _REQUIRED) -> Any:
        """One of `options`, of the same type."""

        def fits(value: object) -> bool:
            return any(value == option and type(value) is type(option) for option in options)

        named = ", ".join(shown(option) for option in options)
        return self._take(name, default, f"one of {named}", fits)

    def names(self, name: str, default: Any = _REQUIRED) -> Any:
        """A list of texts, none twice."""

        def fits(value: object) -> bool:
            return (
                isinstance(value, list)
                and all(_short_text(item) for item in value)
                and len(set(value)) == len(value)
            )

        return self._take(name, default, "a list of texts, none twice", fits)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object; empty where not given."""
        return dict(self._take(name, {}, "an object", lambda value: isinstance(value, dict)))

    def either(
        self, name: str, expected: str, fits: Callable[[object], bool], default: Any = _REQUIRED
    ) -> Any:
        """A value for which `fits` holds; `expected` describes it in the error."""
        return self._take(name, default, expected, fits)

    def done(self) -> None:
        """Raise InvalidInputError for a field that was not taken."""
        unknown = sorted(set(self._values) - set(self._taken))
        if unknown:
            known = ", ".join(self._taken)
            raise InvalidInputError(f"unknown field {self._prefix}{unknown[0]!r}; known: {known}")

    def _take(self, name: str, default: Any, expected: str, fits: Callable[[object], bool]) -> Any:
        self._taken.append(name)
        value = self._values.get(name)
        if value is None:
            if default is _REQUIRED:
                raise InvalidInputError(
                    f"field {self._prefix}{name!r}: expected {expected}, got nothing"
                )
            return default
        if not fits(value):
            raise InvalidInputError(
                f"field {self._prefix}{name!r}: expected {expected}, got {shown(value)}"
            )
        return value


def _short_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def version_text(value: object) -> bool:
    """Whether a value names a version: a positive integer, its text, or `latest`."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return value > 0
    return isinstance(value, str) and (value == "latest" or (value.isascii() and value.isdigit()))
