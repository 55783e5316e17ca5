"""The Prometheus series of pipelines."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class PipelineMetrics:
    """Counters of runs and steps. failures: the process's counter of failed turns by source."""

    def __init__(self, registry: CollectorRegistry, failures: Counter) -> None:
        self.failures = failures
        self.pipeline_runs = Counter(
            "sluice_pipeline_runs_total",
            "Runs ended, by pipeline and state.",
            ["pipeline", "state"],
            registry=registry,
        )
        self.pipeline_active = Gauge(
            "sluice_pipeline_runs_active", "Runs under way here.", registry=registry
        )
        self.pipeline_steps = Counter(
            "sluice_pipeline_steps_total",
            "Steps ended, by pipeline, step and state.",
            ["pipeline", "step", "state"],
            registry=registry,
        )
        self.pipeline_step_seconds = Histogram(
            "sluice_pipeline_step_seconds",
            "Time of a step, its retries included.",
            ["pipeline", "step"],
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self.pipeline_retries = Counter(
            "sluice_pipeline_retries_total",
            "Calls of steps made again.",
            ["pipeline", "step"],
            registry=registry,
        )
