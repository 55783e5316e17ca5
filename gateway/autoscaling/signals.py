"""Load that is measured outside the call path: consumer lag, queued calls. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.types.ids import FunctionId

FRESH_SECONDS: Final = 10.0
MOST_SIGNALS: Final = 10_000


@dataclass(slots=True)
class Signals:
    """Newest reported values by function and reporter.

    pending: calls of a function in the gateway's own queue. A value expires after FRESH_SECONDS,
    so that a reporter that died keeps no function above zero.
    """

    clock: Callable[[], float]
    pending: Callable[[FunctionId], int]
    _values: dict[tuple[FunctionId, str], tuple[float, float]] = field(default_factory=dict)

    def report(self, function: FunctionId, signal: str, value: float) -> bool:
        """Store a value; False when there are too many and this one was dropped."""
        now = self.clock()
        if len(self._values) >= MOST_SIGNALS:
            self._drop_stale(now)
        key = (function, signal)
        if key not in self._values and len(self._values) >= MOST_SIGNALS:
            return False
        self._values[key] = (value, now)
        return True

    def waiting(self, function: FunctionId) -> float:
        """Events and calls that wait for the function anywhere."""
        oldest = self.clock() - FRESH_SECONDS
        reported = sum(
            value
            for (of, _signal), (value, at) in self._values.items()
            if of == function and at >= oldest
        )
        return reported + self.pending(function)

    def _drop_stale(self, now: float) -> None:
        oldest = now - FRESH_SECONDS
        for key in [key for key, (_value, at) in self._values.items() if at < oldest]:
            del self._values[key]
