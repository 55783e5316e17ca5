"""The metrics page: series of the calls, of the process, and what the handler registers.

Not part of sluice.runtime.serving.metrics, because prometheus_client takes 80 ms to import and a
cold start does not need it.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from sluice.runtime.serving.metrics import BUCKETS, Metrics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class RuntimeCollector(Collector):
    """Metrics as families, then those of the default registry under other names."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        names = set()
        for family in (*self._calls(), *self._own()):
            names.add(family.name)
            yield family
        yield from (family for family in REGISTRY.collect() if family.name not in names)

    def _calls(self) -> Iterable[Metric]:
        total = CounterMetricFamily(
            "http_requests", "total HTTP requests processed", labels=["code", "method"]
        )
        seconds = HistogramMetricFamily(
            "http_request_duration_seconds",
            "Seconds spent serving HTTP requests.",
            labels=["code", "method"],
        )
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        for (status, method), series in list(self._metrics.series.items()):
            labels = [str(status), method.lower()]
            counts = list(accumulate(series.counts))
            total.add_metric(labels, counts[-1])
            buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
            seconds.add_metric(labels, buckets, series.total)
        return total, seconds

    def _own(self) -> Iterable[Metric]:
        metrics = self._metrics
        return (
            GaugeMetricFamily(
                "http_requests_in_flight", "total HTTP requests in-flight", metrics.in_flight
            ),
            CounterMetricFamily(
                "sluice_runtime_timeouts",
                "Calls stopped at exec_timeout.",
                metrics.timeouts,
            ),
            CounterMetricFamily(
                "sluice_runtime_clients_gone",
                "Calls whose client closed the connection before the response.",
                metrics.clients_gone,
            ),
            GaugeMetricFamily(
                "sluice_runtime_start_seconds",
                "Seconds from the start of serving to ready: import of the handler and init.",
                metrics.start_seconds,
            ),
        )


def page(metrics: Metrics) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RuntimeCollector(metrics))
    return generate_latest(registry)
