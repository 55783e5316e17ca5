"""Learns from the batches that ran how large the next may be. No I/O."""

from dataclasses import dataclass, field
from typing import Final

FORGET: Final = 0.95
SMOOTHING: Final = 0.2
DECAY: Final = 0.98
LINGER_SHARE: Final = 0.25
CUT: Final = 0.9
STEP: Final = 4
ENOUGH: Final = 1e-9


@dataclass(slots=True)
class BatchSizer:
    """Learns `seconds = slope * rows + base` and from it the rows that meet an objective.

    max_rows: the declared bound. objective: seconds from arrival to result; a batch may take half
    of it, since a call waits for the one before its own. Least squares weighted by FORGET for
    each batch; where all batches had one size there is no slope, and the bound creeps: up by STEP
    while under the objective, down by a tenth when above it (additive increase, multiplicative
    decrease).
    """

    max_rows: int
    objective: float
    mean_seconds: float = 0.0
    _rows: float = field(init=False)
    _weight: float = field(init=False, default=0.0)
    _n: float = field(init=False, default=0.0)
    _t: float = field(init=False, default=0.0)
    _nn: float = field(init=False, default=0.0)
    _nt: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._rows = float(self.max_rows)

    @property
    def rows(self) -> int:
        """Most rows to run at once now."""
        return max(1, int(self._rows))

    def linger(self, longest: float) -> float:
        """Seconds to wait for the callers of the previous batch, at most `longest`."""
        return min(longest, LINGER_SHARE * self.mean_seconds)

    def learn(self, rows: int, seconds: float) -> None:
        """Learn that a batch of `rows` took `seconds`."""
        self.mean_seconds += SMOOTHING * (seconds - self.mean_seconds)
        self._weight = self._weight * FORGET + 1.0
        self._n = self._n * FORGET + rows
        self._t = self._t * FORGET + seconds
        self._nn = self._nn * FORGET + rows * rows
        self._nt = self._nt * FORGET + rows * seconds
        fitted = self._fitted_rows()
        if fitted is not None:
            self._rows = min(self.max_rows, max(1.0, fitted))
        elif seconds > self.objective / 2:
            self._rows = max(1.0, self._rows * CUT)
        else:
            self._rows = min(self.max_rows, self._rows + STEP)

    def _fitted_rows(self) -> float | None:
        """Rows that take half the objective; None while all batches had the same size."""
        spread = self._weight * self._nn - self._n * self._n
        if spread <= ENOUGH * self._nn * self._weight:
            return None
        slope = (self._weight * self._nt - self._n * self._t) / spread
        base = (self._t - slope * self._n) / self._weight
        if slope <= 0:
            return None
        return (self.objective / 2 - max(0.0, base)) / slope


@dataclass(slots=True)
class ConcurrencyEstimate:
    """How many callers there are at a time: rises at once, falls slowly."""

    estimate: float = 0.0

    def seen(self, callers: int) -> None:
        """Record how many callers are in the function now."""
        self.estimate = max(float(callers), DECAY * self.estimate)
