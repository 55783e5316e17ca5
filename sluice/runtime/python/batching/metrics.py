"""The series of batching, exposed with the runtime's others."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ROWS: Final = Histogram(
    "sluice_batch_rows",
    "Rows run as one batch.",
    ["batch"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
QUEUE_ROWS: Final = Gauge("sluice_batch_queue_rows", "Rows that wait for a batch.", ["batch"])
QUEUE_WAIT: Final = Histogram(
    "sluice_batch_queue_wait_seconds",
    "Time a call's rows waited for their batch.",
    ["batch"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
RUN_SECONDS: Final = Histogram(
    "sluice_batch_run_seconds",
    "Time a batch took to run.",
    ["batch"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
RELEASED: Final = Counter(
    "sluice_batch_released", "Batches by what released them.", ["batch", "released_by"]
)
DROPPED: Final = Counter(
    "sluice_batch_dropped", "Calls dropped before they ran, by reason.", ["batch", "reason"]
)
