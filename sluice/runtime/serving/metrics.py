"""Counts of the calls, kept as plain numbers.

sluice.runtime.serving.exposition renders them at a scrape.
"""

from bisect import bisect_left
from typing import Final

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Series:
    """Durations of the calls of one method and status: a count for each bucket, and the sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Metrics:
    """The metrics of of-watchdog and ours."""

    def __init__(self) -> None:
        self.series: dict[tuple[int, str], Series] = {}
        self.in_flight = 0
        self.timeouts = 0
        self.clients_gone = 0
        self.start_seconds = 0.0

    def observe(self, method: str, status: int, seconds: float) -> None:
        """Count one finished call."""
        # Methods are the caller's free text: unknown ones share a label, to bound the series.
        key = (status, method if method in METHODS else "other")
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
        series.counts[bisect_left(BUCKETS, seconds)] += 1
        series.total += seconds
