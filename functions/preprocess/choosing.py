"""Which columns of a dataset are learned from, and as what."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sluice.ml.errors import InvalidInputError
from sluice.ml.table import Kind

from .request import PreprocessRequest

_NUMBERS: Final = re.compile(
    r"(U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|REAL|DOUBLE|DECIMAL(\(.*\))?)",
    re.IGNORECASE,
)
_TEXTS: Final = re.compile(r"(VARCHAR|TEXT|STRING|UUID|ENUM\(.*\))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A column left out, and why."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns to learn from by kind, the target's kind, and the columns left out."""

    columns: Mapping[str, Kind]
    target_kind: Kind
    dropped: tuple[Dropped, ...]


def choose(described: Sequence[Mapping[str, Any]], request: PreprocessRequest) -> Choice:
    """The columns to use. Raises InvalidInputError naming one that is not there or not usable.

    A column of times or of nested values is dropped with its reason, and refused where it was
    named.
    """
    types = {column["name"]: str(column["type"]) for column in described}
    _check_names(types, request)
    columns: dict[str, Kind] = {}
    dropped = [Dropped(name, "named in `drop`") for name in request.drop]
    for name in types if request.columns is None else request.columns:
        if name == request.target or name in request.drop:
            continue
        kind = kind_of(types[name])
        if kind is not None:
            columns[name] = kind
        elif request.columns is None:
            dropped.append(Dropped(name, f"type {types[name]} is neither number, boolean nor text"))
        else:
            raise _unusable("column", name, types[name])
    if not columns:
        raise InvalidInputError(f"dataset {request.dataset!r}: no column is left to learn from")
    target_kind = kind_of(types[request.target])
    if target_kind is None:
        raise _unusable("target", request.target, types[request.target])
    return Choice(columns, target_kind, tuple(dropped))


def kind_of(type_name: str) -> Kind | None:
    """How a column of a DuckDB type is learned from; None where it can not be."""
    if type_name.upper() in {"BOOLEAN", "BOOL"}:
        return "boolean"
    if _NUMBERS.fullmatch(type_name):
        return "number"
    return "string" if _TEXTS.fullmatch(type_name) else None


def _unusable(what: str, name: str, type_name: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} {name!r}: expected numbers, booleans or texts, got {type_name}"
    )


def _check_names(types: Mapping[str, str], request: PreprocessRequest) -> None:
    fields = {"target": [request.target], "columns": request.columns or [], "drop": request.drop}
    for field, names in fields.items():
        for name in names:
            if name not in types:
                listed = ", ".join(list(types)[:50])
                raise InvalidInputError(
                    f"field {field!r}: no column {name!r}; the dataset has: {listed}"
                )
            if field != "target" and name == request.target:
                raise InvalidInputError(f"field {field!r}: {name!r} is the target")
