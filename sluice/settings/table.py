"""A settings table: declare knobs as dataclass fields, read them from an environment."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


class SettingError(ValueError):
    """A variable whose value does not fit; the message names variable, value and rule."""

    def __init__(self, variable: str, value: str, rule: str) -> None:
        super().__init__(f"{variable}={value!r}: expected {rule}")
        self.variable, self.value, self.rule = variable, value, rule


@dataclass(frozen=True, slots=True)
class Row:
    """One knob as documentation shows it."""

    name: str
    variable: str
    default: str
    meaning: str


def setting(variable: str, default: str, parse: Callable[[str], Any], meaning: str) -> Any:
    """A dataclass field read from `variable`; `default` is text too and goes through `parse`.

    meaning: one sentence with the unit, shown in the generated table of settings.
    """
    return field(
        default_factory=lambda: parse(default),
        metadata={"variable": variable, "default": default, "parse": parse, "meaning": meaning},
    )


def load(
    table: type[T],
    environ: Mapping[str, str],
    prefix: str = "",
    others: Collection[type[Any]] = (),
) -> T:
    """An instance of `table` with every knob read from `environ`.

    prefix: variables that begin with it and that no knob reads are refused, so that a typing
    error is not a default in silence. others: further tables under that prefix, read by their own
    packages. Raises SettingError.
    """
    knobs = _knobs(table)
    known = {knob.metadata["variable"] for one in (table, *others) for knob in _knobs(one)}
    for variable in sorted(environ):
        if prefix and variable.startswith(prefix) and variable not in known:
            raise SettingError(variable, environ[variable], f"one of {', '.join(sorted(known))}")
    return table(**{knob.name: _value(knob, environ) for knob in knobs})


def rows(table: type[Any]) -> list[Row]:
    """The knobs of `table` in the order of their declaration."""
    return [
        Row(
            knob.name,
            knob.metadata["variable"],
            knob.metadata["default"],
            knob.metadata["meaning"],
        )
        for knob in _knobs(table)
    ]


def _knobs(table: type[Any]) -> list[Field[Any]]:
    return [knob for knob in fields(table) if "variable" in knob.metadata]


def _value(knob: Field[Any], environ: Mapping[str, str]) -> Any:
    variable = knob.metadata["variable"]
    text = environ.get(variable, "")
    if text == "":
        text = knob.metadata["default"]
    try:
        return knob.metadata["parse"](text)
    except ValueError as error:
        raise SettingError(variable, text, str(error)) from error
