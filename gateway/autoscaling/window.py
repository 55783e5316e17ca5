"""A series of one-second buckets and its mean over the newest part of it. No I/O."""

from dataclasses import dataclass, field
from typing import Final

NEVER: Final = -(10**9)
DECIMALS: Final = 6


@dataclass(slots=True)
class Window:
    """Samples added into buckets of one second, of which the newest `seconds` are kept.

    Source: Knative's linear average, knative/serving pkg/autoscaler/aggregation/bucketing.go: a
    young series is averaged over its real age, and a gap is cut off rather than counted as zeros:
    zeros must be recorded for the mean to fall.
    """

    seconds: int
    _buckets: list[float] = field(init=False)
    _first: int = field(init=False, default=NEVER)
    _last: int = field(init=False, default=NEVER)

    def __post_init__(self) -> None:
        self._buckets = [0.0] * self.seconds

    def record(self, now: float, value: float) -> None:
        """Add `value` to the bucket of `now` (seconds); one older than the window is dropped."""
        second = int(now)
        if second <= self._last - self.seconds:
            return
        if second - self._last >= self.seconds:
            self._buckets = [0.0] * self.seconds
            # After a silence longer than the window the series begins anew.
            self._first = second
            self._last = second
        elif second > self._last:
            for skipped in range(self._last + 1, second + 1):
                self._buckets[skipped % self.seconds] = 0.0
            self._last = second
        else:
            self._first = min(self._first, second)
        self._buckets[second % self.seconds] += value

    def mean(self, now: float, seconds: int | None = None) -> float | None:
        """Mean of the newest `seconds` (default: all), None when every sample is too old."""
        width = self.seconds if seconds is None else seconds
        gap = int(now) - self._last
        if gap > self.seconds:
            return None
        valid = min(self._last - self._first + 1, width - gap)
        if valid <= 0:
            return 0.0
        total = sum(
            self._buckets[second % self.seconds]
            for second in range(self._last - valid + 1, self._last + 1)
        )
        return round(total / valid, DECIMALS)
