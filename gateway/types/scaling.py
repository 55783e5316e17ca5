"""How a function scales and what a replica of it takes, as its developer wrote it. No I/O."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from gateway.types.ids import FunctionId
from sluice.labels import Label, LabelError
from sluice.labels.functions import (
    CONCURRENCY,
    EXEC_TIMEOUT,
    SCALE_DOWN_WINDOW,
    SCALE_MAX,
    SCALE_MIN,
    SCALE_TARGET,
    SCALE_TARGET_PROPORTION,
    SCALE_TYPE,
    SCALE_WINDOW,
    SCALE_ZERO,
    SCALE_ZERO_DURATION,
    STANDARD_MAX,
    STANDARD_TARGET,
    STANDARD_WINDOW,
)
from sluice.labels.values import SMALLEST_TARGET, ScaleType
from sluice.settings import parse_count, parse_duration

T = TypeVar("T")

# Variables of a function's environment that its runtime reads too.
MAX_INFLIGHT: Final = "max_inflight"
EXEC_TIMEOUT_VARIABLE: Final = "exec_timeout"
# Seconds by which the gateway waits longer than a runtime that keeps the time of a call itself.
OWN_TIMEOUT_GRACE: Final = 0.5
# The panic window as a share of the stable one (Knative: panic-window-percentage).
PANIC_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """What a developer asked of a function's replica count, of one replica and of a call's time.

    min_replicas, max_replicas: bounds of every count; max_replicas holds for one set by hand too.
    autoscale_max: the most that the autoscaler sets, 0 for no bound. fixed: it sets none.
    concurrency, max_inflight: most calls at once on a replica, 0 for no bound; the second is what
    the runtime was started with, so it belongs to the replica. timeout: seconds a call may take,
    None where the gateway's setting holds. own_timeout: the runtime enforces that time itself.

    scale_type: what load is; target: load of one replica after the share to be left free, in that
    unit. Windows, delay and durations are seconds. Rates and threshold are Knative's defaults.
    """

    min_replicas: int = 1
    max_replicas: int = 20
    to_zero: bool = False
    concurrency: int = 0
    max_inflight: int = 0
    timeout: float | None = None
    own_timeout: bool = False
    autoscale_max: int = STANDARD_MAX
    fixed: bool = False
    scale_type: ScaleType = ScaleType.RPS
    target: float = STANDARD_TARGET
    stable_window: int = STANDARD_WINDOW
    zero_duration: float = 900.0
    scale_down_delay: float = 0.0
    max_up_rate: float = 1000.0
    max_down_rate: float = 2.0
    panic_threshold: float = 2.0

    @classmethod
    def parse(cls, deployment: FunctionDeployment) -> Self:
        """The policy of `deployment`. Raises InvalidRequestError naming key, value and rule."""
        labels, policy = deployment.labels, cls.parse_bounds(deployment)
        window = STANDARD_WINDOW if _is_standard(labels) else None
        return replace(
            policy,
            scale_type=read_label(SCALE_TYPE, labels),
            target=_target(labels, policy.concurrency),
            stable_window=read_label(SCALE_WINDOW, deployment.annotations, window),
            zero_duration=read_label(SCALE_ZERO_DURATION, labels),
            scale_down_delay=read_label(SCALE_DOWN_WINDOW, labels),
        )

    @classmethod
    def parse_bounds(cls, deployment: FunctionDeployment) -> Self:
        """The policy without the labels that only the autoscaler reads, whatever these say.

        A function that an older release took with other rules for them is called as before.
        Raises InvalidRequestError.
        """
        labels, environment = deployment.labels, deployment.env_vars
        written = {**labels, **deployment.annotations}
        least, most = read_label(SCALE_MIN, labels), read_label(SCALE_MAX, labels)
        bounded = bool(labels.get(SCALE_MAX.name))
        # As of-watchdog reads it: 0 leaves the time to the gateway.
        own_timeout = _read_variable(environment, EXEC_TIMEOUT_VARIABLE, parse_duration) or None
        if bounded and most < least:
            raise InvalidRequestError(
                f"{SCALE_MAX.name}={labels[SCALE_MAX.name]!r}: expected no less than "
                f"{SCALE_MIN.name}, which is {least}"
            )
        return cls(
            min_replicas=least,
            max_replicas=most,
            to_zero=read_label(SCALE_ZERO, labels),
            concurrency=read_label(CONCURRENCY, written),
            max_inflight=_read_variable(environment, MAX_INFLIGHT, parse_count) or 0,
            timeout=read_label(EXEC_TIMEOUT, written, own_timeout),
            own_timeout=EXEC_TIMEOUT.name not in written and EXEC_TIMEOUT_VARIABLE in environment,
            autoscale_max=max(most if bounded or not _is_standard(labels) else STANDARD_MAX, least),
            fixed=bounded and bool(labels.get(SCALE_MIN.name)) and least == most,
        )

    @property
    def call_seconds(self) -> float | None:
        """Seconds after which the gateway gives a call up; None where its setting holds.

        A runtime that keeps the time itself is given the chance to respond first.
        """
        if self.timeout is None or not self.own_timeout:
            return self.timeout
        return self.timeout + OWN_TIMEOUT_GRACE

    @property
    def wake_replicas(self) -> int:
        """The least count at which a function takes calls: at deploy, and when scaled from zero."""
        return max(1, self.min_replicas)

    @property
    def slots(self) -> int:
        """Most calls at once on a replica started now; 0 for no bound."""
        return min((bound for bound in (self.concurrency, self.max_inflight) if bound), default=0)

    @property
    def panic_window(self) -> int:
        """Seconds of the short window, in which a burst is seen."""
        return max(1, int(self.stable_window * PANIC_SHARE + 0.5))

    @property
    def zero_after(self) -> float | None:
        """Seconds without a call until it is scaled to zero, None when it never is."""
        return self.zero_duration if self.to_zero else None

    def replicas_from_zero(self, waiting: int) -> int:
        """The count to which a function at zero is set when `waiting` calls have come.

        As many as have slots for all of them, within the bounds; the least, where a replica takes
        any number.
        """
        if self.slots == 0:
            return self.wake_replicas
        most = min(math.ceil(waiting / self.slots), self.autoscale_max)
        return max(self.wake_replicas, most)


@dataclass(frozen=True, slots=True)
class FunctionLoad:
    """What the call path measured of a function until now; totals only grow.

    desired: the desired count; ready: replicas that take calls. inflight: calls on replicas,
    draining ones included; waiting: calls that have no replica yet. demand_seconds: integral of
    inflight + waiting over time. arrivals: calls that came.
    """

    function: FunctionId
    desired: int
    ready: int
    inflight: int
    waiting: int
    demand_seconds: float
    arrivals: int


def read_label(label: Label[T], written: Mapping[str, str], default: T | None = None) -> T:
    """As `label.read`. Raises InvalidRequestError instead of LabelError."""
    try:
        return label.read(written, default)
    except LabelError as error:
        raise InvalidRequestError(str(error)) from error


def _target(labels: Mapping[str, str], concurrency: int) -> float:
    """Load at which a replica counts as full."""
    proportion = read_label(SCALE_TARGET_PROPORTION, labels)
    if _is_standard(labels):
        return STANDARD_TARGET
    total = read_label(SCALE_TARGET, labels)
    if labels.get(SCALE_TYPE.name) == ScaleType.CAPACITY and concurrency:
        # A replica never holds more calls than this, whatever target was written.
        written = bool(labels.get(SCALE_TARGET.name))
        total = min(total, concurrency) if written else float(concurrency)
    return max(SMALLEST_TARGET, total * proportion)


def _is_standard(labels: Mapping[str, str]) -> bool:
    """Whether the developer chose neither a type nor a target."""
    return not labels.get(SCALE_TYPE.name) and not labels.get(SCALE_TARGET.name)


def _read_variable(
    environment: Mapping[str, str], name: str, parse: Callable[[str], T]
) -> T | None:
    """`parse` of an environment variable, None where it is not set. Raises InvalidRequestError."""
    text = environment.get(name, "")
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidRequestError(f"{name}={text!r}: expected {error}") from error
