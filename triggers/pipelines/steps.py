"""A step of pipelines.yml: its fields, and what its expressions may refer to."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from triggers.pipelines.definition import Map, Retry, Step
from triggers.pipelines.evaluation import ExpressionError, shown
from triggers.pipelines.expression import Expression, Path
from triggers.pipelines.place import ErrorPath
from triggers.pipelines.template import Template, compile_expression, compile_template

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
FUNCTION: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9-]+)?")
MOST_PARALLEL: Final = 64
DEFAULT_TIMEOUT: Final = 120.0
STEP_ROOTS: Final = frozenset({"input", "steps", "run"})
STEP_FIELDS: Final = frozenset({"output", "state"})


@dataclass(slots=True)
class Context:
    """What a step may refer to."""

    inputs: Collection[str]
    steps: Collection[str]
    functions: Collection[str] | None
    needs: set[str] = field(default_factory=set)

    def check(
        self, error_path: ErrorPath, references: Collection[Path], more: Collection[str]
    ) -> None:
        """Refuse references to what is not there; note which steps are needed."""
        for path in sorted(references):
            root, *rest = path
            if root not in STEP_ROOTS and root not in more:
                known = ", ".join(sorted({*STEP_ROOTS, *more}))
                raise error_path.fail(f"nothing is called {root!r} here; there are {known}")
            if root == "input" and rest and rest[0] not in self.inputs:
                known = ", ".join(sorted(self.inputs)) or "none"
                raise error_path.fail(f"unknown input {rest[0]!r}; the pipeline has {known}")
            if root == "steps":
                self._check_step(error_path, rest)

    def _check_step(self, error_path: ErrorPath, rest: list[str]) -> None:
        if not rest or rest[0] not in self.steps:
            named = repr(rest[0]) if rest else "without a name"
            raise error_path.fail(f"unknown step {named}; there are {', '.join(self.steps)}")
        if len(rest) < 2 or rest[1] not in STEP_FIELDS:
            raise error_path.fail(f"steps.{rest[0]}: expected .output or .state behind it")
        self.needs.add(rest[0])


def load_step(error_path: ErrorPath, name: str, value: Any, context: Context) -> Step:
    """The step that `value` describes. Raises InvalidRequestError."""
    if not NAME.fullmatch(name):
        raise error_path.fail("name: expected a-z, 0-9 and '-', at most 63 characters")
    known = ("function", "input", "query", "after", "retry", "timeout", "map", "when")
    fields = error_path.mapping(value, *known)
    map_ = _map(error_path, fields.get("map"), context)
    own = {"item", "index"} if map_ else set()
    when = None
    if "when" in fields:
        when = _expression(error_path.at("when"), fields["when"])
        context.check(error_path.at("when"), when.references, ())
    step = Step(
        name=name,
        function=_function(error_path, fields.get("function"), context.functions),
        input=_template(error_path.at("input"), fields.get("input", {}), context, own),
        query=_template(
            error_path.at("query"), _object(error_path, fields.get("query")), context, own
        ),
        needs=frozenset(_after(error_path, fields.get("after"), context) | context.needs),
        retry=_retry(error_path.at("retry"), fields.get("retry") or {}),
        timeout=error_path.seconds(fields.get("timeout", DEFAULT_TIMEOUT), "timeout"),
        map=map_,
        when=when,
    )
    if name in step.needs:
        raise error_path.fail("needs itself")
    return step


def _object(error_path: ErrorPath, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise error_path.fail(f"query: expected an object, got {shown(value)}")
    return value or {}


def _function(error_path: ErrorPath, value: Any, functions: Collection[str] | None) -> str:
    if not isinstance(value, str) or not FUNCTION.fullmatch(value):
        raise error_path.fail(f"function: expected NAME or NAME.NAMESPACE, got {shown(value)}")
    if functions is not None and value not in functions:
        raise error_path.fail(f"unknown function {value!r}; deploy it first")
    return value


def _template(
    error_path: ErrorPath, value: Any, context: Context, own: Collection[str]
) -> Template:
    try:
        template = compile_template(value)
    except ExpressionError as error:
        raise error_path.fail(str(error)) from None
    context.check(error_path, template.references, own)
    return template


def _expression(error_path: ErrorPath, value: Any) -> Expression:
    try:
        return compile_expression(value)
    except ExpressionError as error:
        raise error_path.fail(str(error)) from None


def _after(error_path: ErrorPath, value: Any, context: Context) -> set[str]:
    listed = [value] if isinstance(value, str) else (value or [])
    if not isinstance(listed, list):
        raise error_path.fail(f"after: expected a step or a list of steps, got {shown(value)}")
    for one in listed:
        if one not in context.steps:
            raise error_path.fail(
                f"after: unknown step {one!r}; there are {', '.join(context.steps)}"
            )
    return set(listed)


def _retry(error_path: ErrorPath, value: Any) -> Retry:
    fields = error_path.mapping(value, "attempts", "backoff", "codes")
    default = Retry()
    codes = fields.get("codes", sorted(default.codes))
    if not isinstance(codes, list):
        raise error_path.fail(f"codes: expected a list of statuses, got {shown(codes)}")
    return Retry(
        error_path.number(fields.get("attempts", default.attempts), "attempts", 1, 100),
        error_path.seconds(fields.get("backoff", default.backoff), "backoff"),
        frozenset(error_path.number(code, "codes", 400, 599) for code in codes),
    )


def _map(error_path: ErrorPath, value: Any, context: Context) -> Map | None:
    if value is None:
        return None
    at = error_path.at("map")
    fields = value if isinstance(value, dict) else {"over": value}
    fields = at.mapping(fields, "over", "max_parallel")
    over = _expression(at, fields.get("over"))
    context.check(at, over.references, ())
    parallel = at.number(fields.get("max_parallel", 4), "max_parallel", 1, MOST_PARALLEL)
    return Map(over, parallel)
