"""The triggers' own Prometheus series."""

from prometheus_client import Counter, Gauge, Histogram

from service.metrics import ServiceMetrics

STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class TriggersMetrics(ServiceMetrics):
    """Counters of every source; sources of their own add theirs to `registry`."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = Counter(
            "sluice_triggers_failures_total",
            "Turns of a source (cron, pipelines) that failed and are made again, as its database "
            "is away or full.",
            ["source"],
            registry=self.registry,
        )
        self._make_cron()

    def _make_cron(self) -> None:
        self.cron_fires = Counter(
            "sluice_cron_fires_total",
            "Fire times called, by function and outcome (succeeded, failed, skipped).",
            ["function", "outcome"],
            registry=self.registry,
        )
        self.cron_seconds = Histogram(
            "sluice_cron_call_seconds",
            "Time of a call by schedule.",
            ["function"],
            buckets=STEP_BUCKETS,
            registry=self.registry,
        )
        self.cron_late_seconds = Gauge(
            "sluice_cron_late_seconds",
            "How long after its fire time the last call of a function began.",
            ["function"],
            registry=self.registry,
        )
        self.cron_schedules = Gauge(
            "sluice_cron_schedules", "Schedules that are followed.", registry=self.registry
        )
        self.cron_bad_schedules = Gauge(
            "sluice_cron_bad_schedules",
            "Schedules that do not parse and are never called.",
            registry=self.registry,
        )
