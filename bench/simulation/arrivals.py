"""Arrivals of calls, generated with a set seed from published statistics.

After the summary statistics that M. Shahrad et al. published of Azure Functions, "Serverless in
the Wild", USENIX ATC 2020: 45 % of applications are called at most once an hour, 81 % at most once
a minute, and calls last a log-normal time of log-mean -0.38 and log-deviation 2.36 seconds. Two
changes keep a run short: the tail ends at MOST_RATE calls a second, and times are held within
SHORTEST and LONGEST.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

SEED: Final = 20261122
TRACE_SECONDS: Final = 1800.0
FUNCTIONS: Final = 1000
FEW: Final = 20
MOST_RATE: Final = 4.0
RATES: Final = ((0.0, 1 / 86400), (0.45, 1 / 3600), (0.81, 1 / 60), (1.0, MOST_RATE))
LOG_MEAN, LOG_DEVIATION = -0.38, 2.36
SHORTEST, LONGEST = 0.005, 5.0
DAY_SECONDS: Final = 1200.0
KINDS: Final = ("bursty", "diurnal", "heavy-tailed")


@dataclass(frozen=True, slots=True)
class Trace:
    """One function's calls: moments and durations, in seconds."""

    times: Sequence[float]
    durations: Sequence[float]


def traces_of(kind: str) -> list[Trace]:
    """The arrivals of one kind: bursty, diurnal or heavy-tailed."""
    source = random.Random(f"{SEED}/{kind}")  # noqa: S311 - arrivals, not keys
    makers = {"bursty": _bursty, "diurnal": _diurnal, "heavy-tailed": _heavy_tailed}
    return [_with_durations(source, times) for times in makers[kind](source)]


def _bursty(source: random.Random) -> Iterator[list[float]]:
    """Ten seconds of 20 calls a second, every five minutes on average, and silence between."""
    for _ in range(FEW):
        times: list[float] = []
        begin = source.expovariate(1 / 150)
        while begin < TRACE_SECONDS:
            times += _poisson(source, lambda _at: 20.0, 20.0, begin, begin + 10)
            begin += 10 + source.expovariate(1 / 300)
        yield [at for at in times if at < TRACE_SECONDS]


def _diurnal(source: random.Random) -> Iterator[list[float]]:
    """Rates that swing between 0.1 and 10 calls a second over a day of twenty minutes."""
    for _ in range(FEW):
        phase = source.uniform(0, DAY_SECONDS)

        def rate(at: float, phase: float = phase) -> float:
            return 0.1 + 9.9 * math.sin(math.pi * (at + phase) / DAY_SECONDS) ** 4

        yield _poisson(source, rate, 10.0, 0.0, TRACE_SECONDS)


def _heavy_tailed(source: random.Random) -> Iterator[list[float]]:
    """Mean rates by the published quantiles, log-linear between them."""
    for _ in range(FUNCTIONS):
        rank = source.random()
        above = next(index for index, (share, _) in enumerate(RATES) if share >= rank)
        (low, slow), (high, fast) = RATES[max(0, above - 1)], RATES[max(1, above)]
        mean = slow * (fast / slow) ** ((rank - low) / (high - low))
        yield _poisson(source, partial(_steady, mean), mean, 0.0, TRACE_SECONDS)


def _steady(rate: float, _at: float) -> float:
    return rate


def _poisson(
    source: random.Random, rate: Callable[[float], float], most: float, begin: float, end: float
) -> list[float]:
    """Arrivals of a Poisson process of that rate (at most `most`), by thinning."""
    times, at = [], begin + source.expovariate(most)
    while at < end:
        if source.random() * most <= rate(at):
            times.append(at)
        at += source.expovariate(most)
    return times


def _with_durations(source: random.Random, times: list[float]) -> Trace:
    """A function's mean after the published fit; its calls spread around it by a quarter."""
    mean = min(LONGEST, max(SHORTEST, source.lognormvariate(LOG_MEAN, LOG_DEVIATION)))
    return Trace(times, [mean * source.lognormvariate(0.0, 0.25) for _ in times])
