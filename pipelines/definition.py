"""What a pipeline is: steps, what each needs, inputs, triggers. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipelines.errors import InvalidRequestError
from pipelines.evaluation import shown
from pipelines.expression import Expression
from pipelines.template import Template
from service.schedule import Schedule

TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "any": (object,),
    "text": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}


@dataclass(frozen=True, slots=True)
class Retry:
    """attempts: calls in all. backoff: seconds before the second, doubled for each after it.

    codes: statuses that are tried again; a call that timed out counts as 504.
    """

    attempts: int = 3
    backoff: float = 1.0
    codes: frozenset[int] = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Map:
    """One call for each value of the list `over`, at most max_parallel of them at a time."""

    items: Expression
    max_parallel: int = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One function call, or one a list item. needs: steps that must have ended before it.

    function: NAME or NAME.NAMESPACE. timeout: seconds a call.
    """

    name: str
    function: str
    input: Template
    query: Template
    needs: frozenset[str]
    retry: Retry
    timeout: float
    map: Map | None = None
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An input field of a pipeline."""

    name: str
    type: str = "any"
    required: bool = True
    default: Any = None

    def fits(self, value: Any) -> bool:
        """Whether a value is of the type; null fits an input that has a default."""
        if value is None and not self.required:
            return True
        if isinstance(value, bool):
            return self.type in {"any", "boolean"}
        return isinstance(value, TYPES[self.type])


@dataclass(frozen=True, slots=True)
class Triggers:
    """What may start a pipeline. cron_input: the input of runs by schedule."""

    topics: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    cron_input: Mapping[str, Any] | None = None
    http: bool = True


@dataclass(frozen=True, slots=True)
class Pipeline:
    """steps: in topological order."""

    name: str
    description: str
    inputs: Mapping[str, Input]
    steps: Mapping[str, Step]
    triggers: Triggers

    def read_input(self, value: Any) -> dict[str, Any]:
        """The input of a run with defaults filled in. Raises InvalidRequestError naming a field."""
        if not isinstance(value, dict):
            raise InvalidRequestError(f"input: expected an object, got {shown(value)}")
        unknown = sorted(set(value) - set(self.inputs))
        if unknown:
            known = ", ".join(sorted(self.inputs)) or "none"
            raise InvalidRequestError(
                f"input: pipeline {self.name} has no {unknown[0]!r}; it has {known}"
            )
        return {name: self._one(field, value) for name, field in self.inputs.items()}

    def _one(self, field: Input, value: Mapping[str, Any]) -> Any:
        if field.name not in value:
            if field.required:
                raise InvalidRequestError(
                    f"input {field.name!r}: expected {_article(field.type)}, got nothing"
                )
            return field.default
        given = value[field.name]
        if not field.fits(given):
            raise InvalidRequestError(
                f"input {field.name!r}: expected {_article(field.type)}, got {shown(given)}"
            )
        return given

    def downstream(self, step: str) -> frozenset[str]:
        """The step and all steps that depend on it, directly or not."""
        found = {step}
        for name, one in self.steps.items():
            if one.needs & found:
                found.add(name)
        return frozenset(found)


def read_json(body: bytes) -> Any:
    """The body as JSON. Raises InvalidRequestError with the place of the fault."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
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


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _article(kind: str) -> str:
    if kind == "any":
        return "a value"
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"
