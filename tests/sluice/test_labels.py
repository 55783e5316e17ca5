"""Labels and annotations: what is declared is what is read, where it is said to be read."""

import re
from typing import Any

import pytest

from gateway.api.openfaas.alert import factor_of
from gateway.queue.retries import RetryPolicy, concurrency
from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from gateway.types.scaling import ScalingPolicy
from service.gateway_client import DeployedFunction
from service.schedule import ScheduleError
from sluice.labels import Label, LabelError, check_known
from sluice.labels.events import CRON, CRON_PREFIX, EVENT_TOPIC, KAFKA, SCHEDULE
from sluice.labels.functions import CALLS, QUEUED_CALLS, SCALE_TYPE, SCALING
from sluice.labels.values import between
from testbed.platform import ROOT
from tests.fakes import deployment
from triggers.cron.entries import entries_of
from triggers.kafka.options import KafkaOptions

OF_FUNCTIONS = (*SCALING, *CALLS, *QUEUED_CALLS)
OF_EVENTS = (*CRON, *KAFKA)
REFUSALS = (InvalidRequestError, LabelError, ScheduleError)
# Any text may be written: what is no time zone is found when the schedule is parsed.
FREE_TEXT = {"com.sluice.cron.timezone", "com.sluice.kafka.content-type"}
LITERAL = re.compile(r"com\.(?:openfaas\.(?:scale|retry)|sluice)\.[a-z]")


def by_gateway(written: FunctionDeployment) -> tuple[object, ...]:
    annotations = written.annotations
    retries = RetryPolicy.parse(annotations), concurrency(annotations, 10)
    return ScalingPolicy.parse(written), factor_of(written), *retries


def by_triggers(annotations: dict[str, str]) -> tuple[object, ...]:
    scheduled = {EVENT_TOPIC.name: "cron-function", SCHEDULE.name: "@daily", **annotations}
    good, bad = entries_of([DeployedFunction("f", "fn", scheduled, {}, 1, 1)])
    if bad:
        raise ScheduleError(bad[0].error.removeprefix("annotation "))
    return tuple(good.values()), KafkaOptions.load(annotations)


def written(label: Label[Any], value: str) -> dict[str, dict[str, str]]:
    """`value` where the label says that it is read; a type, so that no standard rule hides it."""
    fields: dict[str, dict[str, str]] = {"labels": {SCALE_TYPE.name: "rps"}, "annotations": {}}
    fields[f"{label.kind}s"][label.name] = value
    return fields


def read(label: Label[Any], value: str) -> tuple[object, ...]:
    """What the readers of `label` make of a function that has it."""
    fields: dict[str, Any] = written(label, value)
    if label in OF_FUNCTIONS:
        return by_gateway(deployment("f", **fields))
    return by_triggers(fields["annotations"])


@pytest.mark.parametrize(
    "label",
    [label for label in (*OF_FUNCTIONS, *OF_EVENTS) if label.name not in FREE_TEXT],
    ids=lambda label: label.name,
)
def test_value_that_does_not_fit_is_refused_where_the_label_is_read(label: Label[Any]) -> None:
    with pytest.raises(REFUSALS, match=rf"^{re.escape(label.name)}='\?': expected"):
        read(label, "?")


@pytest.mark.parametrize(
    "label",
    [label for label in (*OF_FUNCTIONS, *OF_EVENTS) if label.default is not None],
    ids=lambda label: label.name,
)
def test_default_written_out_means_the_same_as_nothing(label: Label[Any]) -> None:
    plain = deployment("f", labels={SCALE_TYPE.name: "rps"})
    nothing = by_gateway(plain) if label in OF_FUNCTIONS else by_triggers({})
    assert read(label, label.default or "") == nothing


def test_every_label_is_declared_once() -> None:
    names = [label.name for label in (*OF_FUNCTIONS, *OF_EVENTS, EVENT_TOPIC, SCHEDULE)]
    assert len(names) == len(set(names))


def test_no_program_spells_out_the_name_of_a_label() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("gateway", "triggers", "registry", "service", "sluice")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.parent != ROOT / "sluice" / "labels"
        for line in path.read_text().splitlines()
        if LITERAL.search(line)
    ]
    assert not found


def test_empty_value_means_the_default_unless_the_label_says_otherwise() -> None:
    usual = Label("a", "label", between(1, 9), "3", "", "")
    strict = Label("a", "label", between(1, 9), "3", "", "", empty_is_absent=False)
    assert usual.read({"a": ""}) == usual.read({}) == 3
    assert usual.read({"a": ""}, 7) == usual.read({}, 7) == 7
    with pytest.raises(LabelError, match=r"^a='': expected a whole number"):
        strict.read({"a": ""})


def test_unknown_name_under_a_prefix_is_refused_with_the_known_ones() -> None:
    check_known({"com.sluice.kafka.order": "key"}, CRON_PREFIX, CRON)
    with pytest.raises(
        LabelError, match=r"zone='UTC': expected one of com\.sluice\.cron\.async, com"
    ):
        check_known({f"{CRON_PREFIX}zone": "UTC"}, CRON_PREFIX, CRON)
