"""A label or annotation as it is declared, and how its value is read."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Kind = Literal["label", "annotation"]


class LabelError(ValueError):
    """A value that does not fit; the message names label or annotation, value and rule."""

    def __init__(self, name: str, value: str, rule: str) -> None:
        super().__init__(f"{name}={value!r}: expected {rule}")
        self.name, self.value, self.rule = name, value, rule


@dataclass(frozen=True, slots=True)
class ValueType(Generic[T_co]):
    """What may be written: type and bounds in words, and the parser that enforces them.

    parse: raises ValueError with the rule.
    """

    values: str
    parse: Callable[[str], T_co]


@dataclass(frozen=True, slots=True)
class Label(Generic[T]):
    """One label or annotation.

    default: as one would write it; None where the reader passes a default of its own or needs
    none. readers: the parts of the platform that read it. empty_is_absent: whether an empty value
    means the default; otherwise it is parsed like any other.
    """

    name: str
    kind: Kind
    type: ValueType[T]
    default: str | None
    meaning: str
    readers: str
    empty_is_absent: bool = True
    default_value: T = field(init=False, repr=False)

    def __post_init__(self) -> None:
        value = None if self.default is None else self.type.parse(self.default)
        object.__setattr__(self, "default_value", value)

    def read(self, written: Mapping[str, str], default: T | None = None) -> T:
        """The value in `written`, labels or annotations; else `default`, else its own default.

        Raises LabelError.
        """
        text = written.get(self.name)
        if text is None or (not text and self.empty_is_absent):
            return self.default_value if default is None else default
        try:
            return self.type.parse(text)
        except ValueError as error:
            raise LabelError(self.name, text, str(error)) from error


def check_known(written: Mapping[str, str], prefix: str, labels: Iterable[Label[Any]]) -> None:
    """Raise LabelError for a name under `prefix` that is none of `labels`.

    Without it a typing error in a name would mean the default.
    """
    known = {label.name for label in labels}
    for name in sorted(written):
        if name.startswith(prefix) and name not in known:
            raise LabelError(name, written[name], f"one of {', '.join(sorted(known))}")
