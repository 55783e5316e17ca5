"""Delays between attempts: doubling, capped, times a random factor so that many clients spread out.

Source: AWS Architecture Blog, Exponential Backoff And Jitter.
"""

import random
from collections.abc import Callable
from typing import Final

Jitter = Callable[[], float]
# 2 ** 40 times a millisecond is beyond every longest delay.
LARGEST_EXPONENT: Final = 40


def full_jitter() -> float:
    """A factor from 0 to 1: spreads widest, for calls that wait in a queue anyway."""
    return random.random()  # noqa: S311 - spreads load, guards nothing


def equal_jitter() -> float:
    """A factor from 0.5 to 1: for a loop that is never to be tight."""
    return random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def centred_jitter() -> float:
    """A factor from 0.8 to 1.2: for delays that a user chose."""
    return random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing


def no_jitter() -> float:
    """1: for a process that nobody else waits beside."""
    return 1.0


def delay(attempt: int, first: float, longest: float, jitter: Jitter = equal_jitter) -> float:
    """Seconds to wait after attempt number `attempt`, counted from 1. longest: before jitter."""
    exponent = min(max(attempt, 1) - 1, LARGEST_EXPONENT)
    return min(longest, first * 2.0**exponent) * jitter()


class Backoff:
    """The delays of one loop: `next` after each failure, `reset` after a success."""

    __slots__ = ("_attempt", "_first", "_jitter", "_longest")

    def __init__(self, first: float, longest: float, jitter: Jitter = equal_jitter) -> None:
        self._first, self._longest, self._jitter = first, longest, jitter
        self._attempt = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        self._attempt += 1
        return delay(self._attempt, self._first, self._longest, self._jitter)

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._attempt = 0
