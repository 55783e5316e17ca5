"""What steers a function's replica count, as its developer wrote it. No I/O."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from gateway.autoscaling.decision import SMALLEST_TARGET, Policy
from gateway.types.function import FunctionDeployment
from gateway.types.scaling import MAX_LABEL, MIN_LABEL, Scaling, read_value
from sluice.settings import parse_duration, parse_positive_duration

TYPE_LABEL: Final = "com.openfaas.scale.type"
TARGET_LABEL: Final = "com.openfaas.scale.target"
PROPORTION_LABEL: Final = "com.openfaas.scale.target-proportion"
ZERO_DURATION_LABEL: Final = "com.openfaas.scale.zero-duration"
DOWN_WINDOW_LABEL: Final = "com.openfaas.scale.down.window"
WINDOW_ANNOTATION: Final = "com.sluice.scale.window"
DEFAULT_TARGET: Final = 50.0
DEFAULT_PROPORTION: Final = 0.9
DEFAULT_WINDOW: Final = 60
DEFAULT_ZERO_SECONDS: Final = 900.0
PANIC_SHARE: Final = 0.1
LONGEST_DOWN_WINDOW: Final = 300.0
NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
# What OpenFaaS's standard alert rule does to a function without labels of its own.
STANDARD_TARGET: Final = 5.0
STANDARD_MAX: Final = 5
STANDARD_WINDOW: Final = 30


class Signal(StrEnum):
    """What a replica's load is measured in; the words of com.openfaas.scale.type."""

    RPS = "rps"
    CAPACITY = "capacity"
    CPU = "cpu"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How the autoscaler treats one function.

    fixed: its count is not steered by load (min = max). window, panic_window: seconds.
    zero_after: seconds without a call until it sleeps, None when it never does. slots: calls that
    one replica takes at once, 0 for no bound.
    """

    signal: Signal
    policy: Policy
    window: int
    panic_window: int
    zero_after: float | None
    fixed: bool
    slots: int

    @classmethod
    def parse(cls, deployment: FunctionDeployment) -> Self:
        """The autoscaling of `deployment`. Raises InvalidRequestError naming key and rule."""
        labels, annotations = deployment.labels, deployment.annotations
        scaling = Scaling.parse(deployment)
        standard = _is_standard(labels)
        window = read_value(
            annotations,
            WINDOW_ANNOTATION,
            _window,
            STANDARD_WINDOW if standard else DEFAULT_WINDOW,
        )
        to_zero = read_value(
            labels, ZERO_DURATION_LABEL, parse_positive_duration, DEFAULT_ZERO_SECONDS
        )
        return cls(
            signal=read_value(labels, TYPE_LABEL, _signal, Signal.RPS),
            policy=Policy(
                target=_target(labels, scaling),
                min_replicas=scaling.min_replicas,
                max_replicas=_most(labels, scaling),
                stable_window=float(window),
                scale_down_delay=read_value(labels, DOWN_WINDOW_LABEL, _down_window, 0.0),
            ),
            window=window,
            panic_window=max(1, int(window * PANIC_SHARE + 0.5)),
            zero_after=to_zero if scaling.to_zero else None,
            fixed=bool(labels.get(MIN_LABEL) and labels.get(MAX_LABEL))
            and scaling.min_replicas == scaling.max_replicas,
            slots=scaling.slots,
        )


def replicas_from_zero(deployment: FunctionDeployment, waiting: int) -> int:
    """The count to which a function at zero is set when `waiting` calls have come.

    As many as have slots for all of them, within the bounds; the least, where a replica takes any
    number. Raises InvalidRequestError.
    """
    labels, scaling = deployment.labels, Scaling.parse(deployment)
    least = scaling.wake_replicas
    if scaling.slots == 0:
        return least
    return max(least, min(math.ceil(waiting / scaling.slots), _most(labels, scaling)))


def _is_standard(labels: Mapping[str, str]) -> bool:
    """Whether nothing is said of what to scale by."""
    return not labels.get(TYPE_LABEL) and not labels.get(TARGET_LABEL)


def _target(labels: Mapping[str, str], scaling: Scaling) -> float:
    """Load at which a replica is full enough."""
    proportion = read_value(labels, PROPORTION_LABEL, _proportion, DEFAULT_PROPORTION)
    if _is_standard(labels):
        return STANDARD_TARGET
    total = read_value(labels, TARGET_LABEL, _number, 0.0)
    concurrent = labels.get(TYPE_LABEL) == Signal.CAPACITY
    if concurrent and scaling.concurrency:
        # A replica never holds more calls than this, whatever target was written.
        total = min(total, scaling.concurrency) if total else float(scaling.concurrency)
    return max(SMALLEST_TARGET, (total or DEFAULT_TARGET) * proportion)


def _most(labels: Mapping[str, str], scaling: Scaling) -> int:
    if _is_standard(labels) and not labels.get(MAX_LABEL):
        return max(STANDARD_MAX, scaling.min_replicas)
    return max(scaling.max_replicas, scaling.min_replicas)


def _signal(text: str) -> Signal:
    try:
        return Signal(text)
    except ValueError as error:
        raise ValueError(f"one of {', '.join(Signal)}") from error


def _number(text: str) -> float:
    if not NUMBER.fullmatch(text):
        raise ValueError("a number above 0 such as 50 or 2.5")
    value = float(text)
    if not SMALLEST_TARGET <= value < math.inf:
        raise ValueError(f"a number of at least {SMALLEST_TARGET}")
    return value


def _proportion(text: str) -> float:
    if not 0 < (value := _number(text)) <= 1:
        raise ValueError("a share above 0 and up to 1")
    return value


def _down_window(text: str) -> float:
    if (value := parse_duration(text)) > LONGEST_DOWN_WINDOW:
        raise ValueError("a duration of at most 5m")
    return value


def _window(text: str) -> int:
    value = parse_duration(text)
    if not 6 <= value <= 3600 or value != int(value):
        raise ValueError("whole seconds from 6s to 1h")
    return int(value)
