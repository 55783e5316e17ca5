"""The operators of expressions on values. Nothing is converted.

Comparing a number with a text is an error, and so is a reference to a missing value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Scope = Mapping[str, Any]


class ExpressionError(ValueError):
    """An expression that does not parse or cannot be evaluated; the message quotes it."""


class MissingError(ExpressionError):
    """A reference to a missing value."""


def shown(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def boolean(value: Any) -> bool:
    """The value, which must be true or false. Raises ExpressionError."""
    if not isinstance(value, bool):
        raise ExpressionError(f"expected true or false, got {shown(value)}")
    return value


def length(value: Any) -> int:
    """How long a text, list or object is. Raises ExpressionError for any other value."""
    if not isinstance(value, str | list | dict):
        raise ExpressionError(f"len: expected a text, list or object, got {shown(value)}")
    return len(value)


def first(parts: Sequence[Callable[[Scope], Any]], scope: Scope) -> Any:
    """The first part that exists and is not null; else the last part, whatever it is."""
    for part in parts[:-1]:
        try:
            value = part(scope)
        except MissingError:
            continue
        if value is not None:
            return value
    return parts[-1](scope)


def walk(scope: Scope, root: str, steps: Sequence[Callable[[Scope], Any]]) -> Any:
    """The value that a reference leads to. Raises MissingError with its name."""
    if root not in scope:
        raise MissingError(f"there is no {root!r} here")
    value = scope[root]
    reached = root
    for step in steps:
        key = step(scope)
        try:
            value = _get(value, key)
        except LookupError:
            raise MissingError(f"{reached} has no {key!r}") from None
        reached = f"{reached}.{key}"
    return value


def _get(value: Any, key: Any) -> Any:
    """The member of an object by name, or of a list by index. Raises LookupError."""
    if isinstance(value, Mapping) and isinstance(key, str):
        return value[key]
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
        return value[key]
    raise LookupError(key)


def compare(sign: str, left: Any, right: Any) -> bool:
    """The truth of a comparison. Raises ExpressionError for values that have no order."""
    if sign == "==":
        return _equal(left, right)
    if sign == "!=":
        return not _equal(left, right)
    if sign in {"in", "not in"}:
        return _contains(left, right) == (sign == "in")
    if not (_is_number(left) and _is_number(right)) and not (
        isinstance(left, str) and isinstance(right, str)
    ):
        raise ExpressionError(f"can not compare {shown(left)} {sign} {shown(right)}")
    return _ordered(sign, left, right)


def _ordered(sign: str, left: Any, right: Any) -> bool:
    if sign == "<":
        return bool(left < right)
    if sign == "<=":
        return bool(left <= right)
    return bool(left > right) if sign == ">" else bool(left >= right)


def _equal(left: Any, right: Any) -> bool:
    # In Python true is 1; in JSON it is not.
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def _contains(item: Any, whole: Any) -> bool:
    if isinstance(whole, str):
        if not isinstance(item, str):
            raise ExpressionError(f"in: expected a text before a text, got {shown(item)}")
        return item in whole
    if isinstance(whole, Mapping):
        return item in whole
    if isinstance(whole, list):
        return any(_equal(item, one) for one in whole)
    raise ExpressionError(f"in: expected a list, object or text, got {shown(whole)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
