"""How a function scales and what a replica of it takes, as its developer wrote it. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment, FunctionId
from sluice.settings import (
    parse_count,
    parse_duration,
    parse_flag,
    parse_positive_count,
    parse_positive_duration,
)

T = TypeVar("T")

MIN_LABEL: Final = "com.openfaas.scale.min"
MAX_LABEL: Final = "com.openfaas.scale.max"
ZERO_LABEL: Final = "com.openfaas.scale.zero"
CONCURRENCY_ANNOTATION: Final = "com.sluice.concurrency"
MAX_INFLIGHT: Final = "max_inflight"
EXEC_TIMEOUT: Final = "exec_timeout"
DEFAULT_MIN: Final = 1
OWN_TIMEOUT_GRACE: Final = 0.5
DEFAULT_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Scaling:
    """Bounds of a function's replica count, of the calls on one replica and of a call's time.

    concurrency, max_inflight: most calls at once on a replica, 0 for no bound; the second is what
    the runtime was started with, so it belongs to the replica. timeout: seconds a call may take,
    None where the gateway's setting holds. own_timeout: the runtime enforces that time itself.
    """

    min_replicas: int = DEFAULT_MIN
    max_replicas: int = DEFAULT_MAX
    to_zero: bool = False
    concurrency: int = 0
    max_inflight: int = 0
    timeout: float | None = None
    own_timeout: bool = False

    @classmethod
    def parse(cls, deployment: FunctionDeployment) -> Self:
        """The scaling of `deployment`. Raises InvalidRequestError naming key, value and rule."""
        labels, environment = deployment.labels, deployment.env_vars
        written = {**labels, **deployment.annotations}
        scaling = cls(
            min_replicas=read_value(labels, MIN_LABEL, parse_count, DEFAULT_MIN),
            max_replicas=read_value(labels, MAX_LABEL, parse_positive_count, DEFAULT_MAX),
            to_zero=read_value(labels, ZERO_LABEL, parse_flag, False),
            concurrency=read_value(written, CONCURRENCY_ANNOTATION, parse_count, 0),
            max_inflight=read_value(environment, MAX_INFLIGHT, parse_count, 0),
            timeout=read_value(
                written,
                EXEC_TIMEOUT,
                parse_positive_duration,
                read_value(environment, EXEC_TIMEOUT, _time, None),
            ),
            own_timeout=EXEC_TIMEOUT not in written and EXEC_TIMEOUT in environment,
        )
        if MAX_LABEL in labels and scaling.max_replicas < scaling.min_replicas:
            raise InvalidRequestError(
                f"{MAX_LABEL}={labels[MAX_LABEL]!r}: expected no less than {MIN_LABEL}, "
                f"which is {scaling.min_replicas}"
            )
        return scaling

    @property
    def call_seconds(self) -> float | None:
        """Seconds after which the gateway gives a call up; None where its setting holds.

        A runtime that keeps the time itself is given the chance to answer first.
        """
        if self.timeout is None or not self.own_timeout:
            return self.timeout
        return self.timeout + OWN_TIMEOUT_GRACE

    @property
    def wake_replicas(self) -> int:
        """The least count at which a function takes calls: at deploy, and when one wakes it."""
        return max(1, self.min_replicas)

    @property
    def slots(self) -> int:
        """Most calls at once on a replica started now; 0 for no bound."""
        return min((bound for bound in (self.concurrency, self.max_inflight) if bound), default=0)


@dataclass(frozen=True, slots=True)
class FunctionLoad:
    """What the call path saw of a function until now; totals only grow.

    desired: the count asked for; ready: replicas that take calls. inflight: calls on replicas,
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


def read_value(source: Mapping[str, str], key: str, parse: Callable[[str], T], default: T) -> T:
    """`parse` of what stands under `key`, else `default`. Raises InvalidRequestError."""
    text = source.get(key, "")
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidRequestError(f"{key}={text!r}: expected {error}") from error


def _time(text: str) -> float | None:
    """As of-watchdog reads it: 0 leaves the time to the gateway."""
    return parse_duration(text) or None
