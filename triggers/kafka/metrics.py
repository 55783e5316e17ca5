"""The Kafka source's Prometheus series."""

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge


class KafkaMetrics:
    """Counters and gauges of every consumer; function_name is NAME.NAMESPACE."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "sluice_kafka_lag",
            "Records behind the end of this connector's partitions that are not done.",
            ["function_name", "topic"],
            registry=registry,
        )
        self.records = Counter(
            "sluice_kafka_records_total",
            "Records done, by outcome (succeeded, dead_lettered, dropped).",
            ["function_name", "topic", "outcome"],
            registry=registry,
        )
        self.retries = Counter(
            "sluice_kafka_retries_total",
            "Calls made again after the function failed.",
            ["function_name"],
            registry=registry,
        )
        self.unavailable = Counter(
            "sluice_kafka_unavailable_total",
            "Calls that nothing took (gateway away, no replica); they use up no retry.",
            ["function_name"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "sluice_kafka_calls_in_flight",
            "Calls under way.",
            ["function_name"],
            registry=registry,
        )
        self.errors = Counter(
            "sluice_kafka_consumer_errors_total",
            "Failures of consumers and producers with the broker.",
            ["function_name"],
            registry=registry,
        )
        self.consumers = Gauge(
            "sluice_kafka_consumers", "Functions that are consumed for.", registry=registry
        )
        self.refused = Gauge(
            "sluice_kafka_refused_functions",
            "Functions whose annotations do not fit, so that nothing is consumed for them.",
            registry=registry,
        )

    def forget(self, function_name: str, topics: tuple[str, ...]) -> None:
        """Drop the gauges of a function that has no consumer any more."""
        for topic in topics:
            with contextlib.suppress(KeyError):  # its lag was never known
                self.lag.remove(function_name, topic)
        with contextlib.suppress(KeyError):
            self.in_flight.remove(function_name)
