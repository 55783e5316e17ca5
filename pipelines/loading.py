"""pipelines.yml to pipelines: each fault names file, pipeline and step, and what was expected."""

import re
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import yaml

from pipelines.definition import TYPES, Input, Map, Pipeline, Retry, Step, Triggers
from pipelines.errors import InvalidRequestError
from pipelines.evaluation import ExpressionError, shown
from pipelines.expression import Expression, Path
from pipelines.template import Template, compile_expression, compile_template
from service.schedule import Schedule, ScheduleError, parse_schedules
from sluice.settings import parse_duration

INPUT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
MOST_PIPELINES: Final = 100
MOST_STEPS: Final = 200
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
FUNCTION: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9-]+)?")
MOST_PARALLEL: Final = 64
DEFAULT_TIMEOUT: Final = 120.0
STEP_ROOTS: Final = frozenset({"input", "steps", "run"})
STEP_FIELDS: Final = frozenset({"output", "state"})
LONGEST_TIMEOUT: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ErrorPath:
    """A place in the file, as errors name it. It checks the values that stand there."""

    where: str

    def at(self, more: str) -> "ErrorPath":
        """A place inside this one."""
        return ErrorPath(f"{self.where}, {more}")

    def fail(self, text: str) -> InvalidRequestError:
        """An error at this place."""
        return InvalidRequestError(f"{self.where}: {text}")

    def mapping(self, value: Any, *known: str) -> dict[str, Any]:
        """The value as an object of known keys only."""
        if not isinstance(value, dict):
            raise self.fail(f"expected an object, got {shown(value)}")
        for key in value:
            if key not in known:
                raise self.fail(f"no field {key!r}; known: {', '.join(sorted(known))}")
        return value

    def number(self, value: Any, name: str, low: int, high: int) -> int:
        """The value as a whole number within bounds."""
        if type(value) is not int or not low <= value <= high:
            raise self.fail(f"{name}: expected {low} to {high}, got {shown(value)}")
        return value

    def seconds(self, value: Any, name: str) -> float:
        """The value as a duration above 0, in seconds."""
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            raise self.fail(f"{name}: expected {error}, got {shown(value)}") from None
        if not 0 < seconds <= LONGEST_TIMEOUT:
            raise self.fail(f"{name}: expected up to 24h, got {shown(value)}")
        return seconds


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which can expand a short text without limit, and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # PyYAML's stubs
            raise yaml.constructor.ConstructorError(None, None, "aliases are not taken", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_pipelines(
    source: str, file: str, functions: Collection[str] | None = None
) -> dict[str, Pipeline]:
    """The pipelines of a file by name.

    functions: NAME and NAME.NAMESPACE of what is deployed; None to leave that unchecked. Raises
    InvalidRequestError.
    """
    try:
        document = yaml.load(source, _Loader)  # noqa: S506 - a SafeLoader that takes less
    except yaml.MarkedYAMLError as error:
        where = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidRequestError(f"{file}{where}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidRequestError(f"{file}: {error}") from None
    top = ErrorPath(file).mapping(document, "pipelines", "version")
    if top.get("version", 1) != 1:
        raise InvalidRequestError(f"{file}: version: expected 1, got {shown(top['version'])}")
    listed = top.get("pipelines")
    if not isinstance(listed, dict) or len(listed) > MOST_PIPELINES:
        raise InvalidRequestError(
            f"{file}: pipelines: expected an object of at most {MOST_PIPELINES} by name"
        )
    found = {
        str(name): _pipeline(file, str(name), value, functions) for name, value in listed.items()
    }
    _check_topics(file, found)
    return found


def _pipeline(file: str, name: str, value: Any, functions: Collection[str] | None) -> Pipeline:
    error_path = ErrorPath(f"{file}, pipeline {name}")
    if not NAME.fullmatch(name):
        raise error_path.fail("name: expected a-z, 0-9 and '-', at most 63 characters")
    fields = error_path.mapping(value, "description", "inputs", "steps", "triggers")
    inputs = _inputs(error_path, fields.get("inputs"))
    listed = fields.get("steps")
    if not isinstance(listed, dict) or not 0 < len(listed) <= MOST_STEPS:
        raise error_path.fail(f"steps: expected an object of 1 to {MOST_STEPS} steps by name")
    names = [str(one) for one in listed]
    steps = {
        one: load_step(
            error_path.at(f"step {one}"), one, listed[one], Context(inputs, names, functions)
        )
        for one in names
    }
    pipeline = Pipeline(
        name,
        str(fields.get("description") or ""),
        inputs,
        _ordered(error_path, steps),
        _triggers(error_path.at("triggers"), fields.get("triggers")),
    )
    _check_cron_input(error_path.at("triggers"), pipeline)
    return pipeline


def _inputs(error_path: ErrorPath, value: Any) -> dict[str, Input]:
    found: dict[str, Input] = {}
    if value is None:
        return found
    if not isinstance(value, dict):
        raise error_path.fail("inputs: expected an object of inputs by name")
    for key, one in value.items():
        name, at = str(key), error_path.at(f"input {key}")
        if not INPUT_NAME.fullmatch(name):
            raise at.fail("name: expected letters, digits, '_' and '-', at most 64 characters")
        fields = at.mapping(one or {}, "type", "default", "description")
        kind = fields.get("type", "any")
        if kind not in TYPES:
            raise at.fail(f"type: expected one of {', '.join(TYPES)}, got {shown(kind)}")
        found[name] = Input(name, kind, "default" not in fields, fields.get("default"))
        if "default" in fields and not found[name].fits(fields["default"]):
            raise at.fail(f"default: expected {kind}, got {shown(fields['default'])}")
    return found


def _triggers(error_path: ErrorPath, value: Any) -> Triggers:
    fields = error_path.mapping(value or {}, "topic", "cron", "http")
    listed = fields.get("topic") or []
    topics = [listed] if isinstance(listed, str) else listed
    if not isinstance(topics, list) or not all(
        isinstance(one, str) and TOPIC.fullmatch(one) for one in topics
    ):
        raise error_path.fail(f"topic: expected a topic or a list of them, got {shown(listed)}")
    http = fields.get("http", True)
    if not isinstance(http, bool):
        raise error_path.fail(f"http: expected true or false, got {shown(http)}")
    schedules, cron_input = _cron(error_path.at("cron"), fields.get("cron"))
    return Triggers(tuple(topics), schedules, cron_input, http)


def _cron(
    error_path: ErrorPath, value: Any
) -> tuple[tuple[Schedule, ...], Mapping[str, Any] | None]:
    if value is None:
        return (), None
    fields = value if isinstance(value, dict) else {"schedule": value}
    fields = error_path.mapping(fields, "schedule", "timezone", "input")
    schedules: list[Schedule] = []
    for one in parse_schedules(str(fields.get("schedule", "")), str(fields.get("timezone", ""))):
        if isinstance(one, ScheduleError):
            raise error_path.fail(str(one))
        schedules.append(one)
    given = fields.get("input", {})
    if not isinstance(given, dict):
        raise error_path.fail(f"input: expected an object, got {shown(given)}")
    return tuple(schedules), given


def _check_cron_input(error_path: ErrorPath, pipeline: Pipeline) -> None:
    if pipeline.triggers.cron_input is None:
        return
    try:
        pipeline.read_input(dict(pipeline.triggers.cron_input))
    except InvalidRequestError as error:
        raise error_path.at("cron").fail(str(error)) from None


def _ordered(error_path: ErrorPath, steps: Mapping[str, Step]) -> dict[str, Step]:
    try:
        order = list(TopologicalSorter({n: one.needs for n, one in steps.items()}).static_order())
    except CycleError as error:
        cycle = list(reversed(error.args[1]))
        raise error_path.at(f"step {cycle[0]}").fail(f"a cycle: {' -> '.join(cycle)}") from None
    return {name: steps[name] for name in order}


def _check_topics(file: str, pipelines: Mapping[str, Pipeline]) -> None:
    owners: dict[str, str] = {}
    for name, pipeline in pipelines.items():
        for topic in pipeline.triggers.topics:
            if owners.setdefault(topic, name) != name:
                raise InvalidRequestError(
                    f"{file}, pipeline {name}, triggers: topic {topic!r} starts {owners[topic]}"
                )


# Steps.


@dataclass(slots=True)
class Context:
    """The names that a step may refer to."""

    inputs: Collection[str]
    steps: Collection[str]
    functions: Collection[str] | None
    needs: set[str] = field(default_factory=set)

    def check(
        self, error_path: ErrorPath, references: Collection[Path], more: Collection[str]
    ) -> None:
        """Refuse references to unknown names; note the steps that are needed."""
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
    items = _expression(at, fields.get("over"))
    context.check(at, items.references, ())
    parallel = at.number(fields.get("max_parallel", 4), "max_parallel", 1, MOST_PARALLEL)
    return Map(items, parallel)
