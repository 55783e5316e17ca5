"""pipelines.yml to pipelines; each fault names file, pipeline and step, and what was expected."""

import re
from collections.abc import Collection, Hashable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import yaml

from triggers.cron.schedule import Schedule, ScheduleError, parse_schedules
from triggers.errors import InvalidRequestError
from triggers.pipelines.definition import TYPES, Input, Pipeline, Step, Triggers
from triggers.pipelines.evaluation import shown
from triggers.pipelines.place import ErrorPath
from triggers.pipelines.steps import NAME, Context, load_step

INPUT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
MOST_PIPELINES: Final = 100
MOST_STEPS: Final = 200


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which can make a short text endless, and without repeated keys."""

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
