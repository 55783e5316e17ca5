"""The registry's own Prometheus series."""

from prometheus_client import Counter, Gauge, Histogram

from service.metrics import ServiceMetrics


class RegistryMetrics(ServiceMetrics):
    """Series for requests, dataset uploads and event long polls."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = Counter(
            "sluice_registry_requests_total",
            "Requests answered, by route and status.",
            ["method", "route", "code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "sluice_registry_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ["method", "route"],
            registry=self.registry,
        )
        self.ingest_seconds = Histogram(
            "sluice_registry_ingest_seconds",
            "Time to read and check one dataset upload.",
            ["outcome"],
            buckets=(0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=self.registry,
        )
        self.ingesting = Gauge(
            "sluice_registry_ingest_waiting",
            "Uploads being read or waiting to be.",
            registry=self.registry,
        )
        self.event_waits = Gauge(
            "sluice_registry_event_waits",
            "Requests for events that wait for the next one.",
            registry=self.registry,
        )
        self.rejected_rows = Counter(
            "sluice_registry_rejected_rows_total",
            "Rows of accepted uploads that did not fit.",
            registry=self.registry,
        )
