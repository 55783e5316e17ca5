"""Counters of the call path under OpenFaaS's metric names, and some of our own.

A call adds to plain ints and finds its bucket by bisection (0.7 us); prometheus_client's own
children take 4.7 us and a lock. One collector turns them into series at a scrape.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.types.scaling import FunctionLoad

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WAIT_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# A function chooses its status codes; beyond this many it shares one series.
MAX_CODES: Final = 40
OTHER_CODE: Final = 0
CLIENT_GONE: Final = 499


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One series as documentation and dashboards know it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


INVOCATIONS: Final = MetricRow(
    "gateway_function_invocation_total", "counter", ("code", "function_name"), "Function metrics"
)
SECONDS: Final = MetricRow(
    "gateway_functions_seconds", "histogram", ("code", "function_name"), "Function time taken"
)
STARTED: Final = MetricRow(
    "gateway_function_invocation_started",
    "counter",
    ("function_name",),
    "The total number of function HTTP requests started.",
)
SERVICE_COUNT: Final = MetricRow(
    "gateway_service_count",
    "gauge",
    ("function_name",),
    "Current count of replicas for function",
)
READY: Final = MetricRow(
    "sluice_replicas_ready", "gauge", ("function_name",), "Replicas that take calls."
)
INFLIGHT: Final = MetricRow(
    "sluice_calls_in_flight", "gauge", ("function_name",), "Calls on replicas now."
)
WAITING: Final = MetricRow(
    "sluice_calls_waiting", "gauge", ("function_name",), "Calls that wait for a replica now."
)
WAIT_SECONDS: Final = MetricRow(
    "sluice_call_wait_seconds",
    "histogram",
    ("function_name",),
    "Time that calls waited for a replica; calls that found one free are not in it.",
)
COLD_START_SECONDS: Final = MetricRow(
    "sluice_cold_start_seconds",
    "histogram",
    ("function_name",),
    "Time from the first call that found no replica until one was ready.",
)
RETRIES: Final = MetricRow(
    "sluice_call_retries_total",
    "counter",
    ("function_name",),
    "Calls sent a second time because the first connection was lost before the replica had them.",
)
LOST: Final = MetricRow(
    "sluice_calls_lost_total",
    "counter",
    ("function_name",),
    "Calls whose replica ended or broke the connection before the answer was complete.",
)
UNKNOWN: Final = MetricRow(
    "sluice_unknown_function_calls_total", "counter", (), "Calls of functions that do not exist."
)

METRICS: Final = (
    INVOCATIONS,
    SECONDS,
    STARTED,
    SERVICE_COUNT,
    READY,
    INFLIGHT,
    WAITING,
    WAIT_SECONDS,
    COLD_START_SECONDS,
    RETRIES,
    LOST,
    UNKNOWN,
)


class Histogram:
    """Counts by upper bound, with their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulated(self) -> Iterator[tuple[str, int]]:
        """Bounds as Prometheus writes them, each with the count of values up to it."""
        total = 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            total += count
            yield "+Inf" if bound == math.inf else repr(bound), total


class FunctionMetrics:
    """Counters of one function's calls. The call path writes to them directly."""

    __slots__ = ("cold_starts", "lost", "name", "retries", "seconds", "started", "waits")

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = 0
        self.retries = 0
        self.lost = 0
        self.seconds: dict[int, Histogram] = {}
        self.waits = Histogram(WAIT_BUCKETS)
        self.cold_starts = Histogram(WAIT_BUCKETS)

    def answered(self, code: int, seconds: float) -> None:
        """Count a finished call under the status that the caller got (499: the caller left)."""
        histogram = self.seconds.get(code)
        if histogram is None:
            histogram = self._new_code(code)
        histogram.counts[bisect_left(BUCKETS, seconds)] += 1
        histogram.sum += seconds

    @property
    def invocations(self) -> int:
        return sum(histogram.count for histogram in self.seconds.values())

    def _new_code(self, code: int) -> Histogram:
        if len(self.seconds) >= MAX_CODES:
            code = OTHER_CODE
        return self.seconds.setdefault(code, Histogram(BUCKETS))


Loads = Callable[[], Iterable[FunctionLoad]]


class Metrics(Collector):
    """All counters of the call path; register it with a prometheus_client registry.

    Only deployed functions have series: the activator adds them at deploy and drops them at
    removal, so that calls of invented names add none.
    """

    def __init__(self) -> None:
        self.unknown = 0
        self._functions: dict[str, FunctionMetrics] = {}
        self._loads: Loads | None = None

    def function(self, name: str) -> FunctionMetrics:
        """The counters of function `name` (`name.namespace`), made when missing."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = FunctionMetrics(name)
        return found

    def forget(self, name: str) -> None:
        """Drop the series of a function that is gone."""
        self._functions.pop(name, None)

    def invocations(self, name: str) -> int:
        """Calls of `name.namespace` that ended, whatever their status; 0 for an unknown one."""
        found = self._functions.get(name)
        return found.invocations if found is not None else 0

    def read_loads(self, loads: Loads) -> None:
        """Read the gauges of each scrape from `loads`; the activator does so when it is made."""
        self._loads = loads

    def describe(self) -> Iterable[Metric]:
        return [_family(row) for row in METRICS]

    def collect(self) -> Iterable[Metric]:
        """Every series; of a function that was never called only its replica counts.

        With 2,000 such functions a scrape delays calls by 8 ms; with series of zeros by 190 ms.
        Raises RuntimeError when `read_loads` was not called.
        """
        if self._loads is None:
            raise RuntimeError("no source of loads: read_loads comes before the first scrape")
        functions = [each for each in self._functions.values() if each.started]
        yield from _by_code(functions)
        yield _single(STARTED, [(each.name, each.started) for each in functions])
        yield from _gauges(list(self._loads()))
        yield _histograms(WAIT_SECONDS, [(each.name, each.waits) for each in functions])
        yield _histograms(COLD_START_SECONDS, [(each.name, each.cold_starts) for each in functions])
        yield _single(RETRIES, [(each.name, each.retries) for each in functions])
        yield _single(LOST, [(each.name, each.lost) for each in functions])
        unknown = _family(UNKNOWN)
        unknown.add_sample(UNKNOWN.name, {}, self.unknown)
        yield unknown


def exposition(registry: CollectorRegistry) -> bytes:
    """The text format of `registry` with every series of METRICS under its own type.

    prometheus_client appends _total to each counter's name. OpenFaaS has a counter without that
    ending: it is passed on as untyped, and its type is corrected here.
    """
    untyped = f"# TYPE {STARTED.name} untyped\n".encode()
    return generate_latest(registry).replace(untyped, f"# TYPE {STARTED.name} counter\n".encode())


def _family(row: MetricRow) -> Metric:
    if row.type == "counter" and not row.name.endswith("_total"):
        return Metric(row.name, row.help, "unknown")
    return Metric(row.name.removesuffix("_total"), row.help, row.type)


def _by_code(functions: list[FunctionMetrics]) -> tuple[Metric, Metric]:
    totals, seconds = _family(INVOCATIONS), _family(SECONDS)
    for function in functions:
        for code, histogram in sorted(function.seconds.items()):
            text = str(code) if code != OTHER_CODE else "other"
            labels = {"code": text, "function_name": function.name}
            totals.add_sample(INVOCATIONS.name, labels, histogram.count)
            _add_histogram(seconds, SECONDS.name, labels, histogram)
    return totals, seconds


def _gauges(loads: list[FunctionLoad]) -> Iterator[Metric]:
    named = [(str(load.function), load) for load in loads]
    yield _single(SERVICE_COUNT, [(name, load.desired) for name, load in named])
    yield _single(READY, [(name, load.ready) for name, load in named])
    called = [(name, load) for name, load in named if load.arrivals]
    yield _single(INFLIGHT, [(name, load.inflight) for name, load in called])
    yield _single(WAITING, [(name, load.waiting) for name, load in called])


def _single(row: MetricRow, values: list[tuple[str, int]]) -> Metric:
    family = _family(row)
    for name, value in values:
        family.add_sample(row.name, {"function_name": name}, value)
    return family


def _histograms(row: MetricRow, values: list[tuple[str, Histogram]]) -> Metric:
    family = _family(row)
    for name, histogram in values:
        _add_histogram(family, row.name, {"function_name": name}, histogram)
    return family


def _add_histogram(family: Metric, name: str, labels: dict[str, str], values: Histogram) -> None:
    for bound, count in values.cumulated():
        family.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
    family.add_sample(f"{name}_sum", labels, values.sum)
    family.add_sample(f"{name}_count", labels, values.count)
