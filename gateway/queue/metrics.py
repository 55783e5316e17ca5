"""Series of the queue under OpenFaaS's names, and some of our own."""

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.metrics import MetricRow
from gateway.queue.call import CallState

QUEUE: Final = "faas-request"

PENDING: Final = MetricRow(
    "queue_worker_pending_messages",
    "gauge",
    ("queue_name", "function_name"),
    "Queued calls that wait, those between two attempts included.",
)
PROCESSED: Final = MetricRow(
    "queue_worker_messages_processed_total",
    "counter",
    ("queue_name", "kubernetes_pod_name"),
    "Queued calls that are finished, whatever their end.",
)
SUBMITTED: Final = MetricRow(
    "queue_worker_messages_submitted_total", "counter", ("queue_name",), "Queued calls accepted."
)
INFLIGHT: Final = MetricRow(
    "queue_worker_function_invocation_inflight",
    "gauge",
    ("queue_name",),
    "Queued calls that functions work on now.",
)
FINISHED: Final = MetricRow(
    "sluice_queue_finished_total",
    "counter",
    ("state", "function_name"),
    "Queued calls that are finished, by how: succeeded, dead or cancelled.",
)
RETRIES: Final = MetricRow(
    "sluice_queue_retries_total",
    "counter",
    ("function_name",),
    "Attempts of queued calls after which another is made.",
)
CALLBACKS: Final = MetricRow(
    "sluice_queue_callbacks_total",
    "counter",
    ("state",),
    "Attempts to call back: delivered, owed (to be tried again) or failed.",
)
METRICS: Final = (PENDING, PROCESSED, SUBMITTED, INFLIGHT, FINISHED, RETRIES, CALLBACKS)


class QueueMetrics(Collector):
    """Counters of one gateway. pending, inflight: read at each scrape."""

    def __init__(self, pending: Callable[[], Mapping[str, int]], inflight: Callable[[], int]):
        self._pending, self._inflight = pending, inflight
        self._host = socket.gethostname()
        self.submitted = 0
        self.finished: Counter[tuple[CallState, str]] = Counter()
        self.retries: Counter[str] = Counter()
        self.callbacks: Counter[str] = Counter()

    def describe(self) -> Iterable[Metric]:
        return [_family(row) for row in METRICS]

    def forget(self, function: str) -> None:
        """Drop the series of a function that is gone."""
        self.retries.pop(function, None)
        for key in [key for key in self.finished if key[1] == function]:
            del self.finished[key]

    def collect(self) -> Iterable[Metric]:
        queue = {"queue_name": QUEUE}
        pending = [({**queue, "function_name": key}, n) for key, n in self._pending().items()]
        yield _filled(PENDING, pending)
        processed = sum(self.finished.values())
        pod = {**queue, "kubernetes_pod_name": self._host}
        yield _filled(PROCESSED, [(pod, processed)])
        yield _filled(SUBMITTED, [(queue, self.submitted)])
        yield _filled(INFLIGHT, [(queue, self._inflight())])
        finished = [
            ({"state": state.name.lower(), "function_name": name}, n)
            for (state, name), n in self.finished.items()
        ]
        yield _filled(FINISHED, finished)
        yield _filled(RETRIES, [({"function_name": k}, n) for k, n in self.retries.items()])
        yield _filled(CALLBACKS, [({"state": k}, n) for k, n in self.callbacks.items()])


def _family(row: MetricRow) -> Metric:
    return Metric(row.name.removesuffix("_total"), row.help, row.type)


def _filled(row: MetricRow, samples: list[tuple[dict[str, str], int]]) -> Metric:
    family = _family(row)
    for labels, value in samples:
        family.add_sample(row.name, labels, value)
    return family
