"""Scaling policies on the same arrivals, in fake time: ours, and what else is done.

`python -m bench.simulate [ZERO-DURATION]` prints the table. Each function is replayed by itself
through the real activator and, for our policy, the real tracker and decide(): bench/simulation/.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.simulation.arrivals import KINDS, TRACE_SECONDS, Trace, traces_of
from bench.simulation.policies import ZERO_DURATION, Alert, Fixed, Ours, ZeroAfterIdle
from bench.simulation.world import Outcome, Policy, World


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arrivals of one kind under each policy.

    fixed: the fewest replicas a function that wait no longer than with ours; idle: zero after
    `keep` seconds without a call, the time at which it costs as many replica-seconds as ours.
    """

    ours: Outcome
    fixed: Outcome
    alert: Outcome
    idle: Outcome
    keep: float


def replay(traces: Sequence[Trace], policy: Callable[[], Policy]) -> Outcome:
    """All functions under one policy."""
    outcome = Outcome()
    for trace in traces:
        outcome.add(World(trace, policy()).run())
    return outcome


def fixed_as_fast(traces: Sequence[Trace], ours: Sequence[Outcome]) -> Outcome:
    """Each function with the fewest replicas whose p99 is no longer than ours."""
    outcome = Outcome()
    for trace, other in zip(traces, ours, strict=True):
        count = 1
        while (found := World(trace, Fixed(count)).run()).p99 > other.p99:
            count += 1
        outcome.add(found)
    return outcome


def idle_as_costly(traces: Sequence[Trace], replica_seconds: float) -> tuple[float, Outcome]:
    """Zero after idle, with the keep-time at which it costs as many replica-seconds."""
    low, high = 0.5, TRACE_SECONDS
    best = replay(traces, partial(ZeroAfterIdle, high))
    keep = high
    for _ in range(8):
        middle = math.sqrt(low * high)
        found = replay(traces, partial(ZeroAfterIdle, middle))
        if found.replica_seconds < replica_seconds:
            low = middle
        else:
            high, keep, best = middle, middle, found
    return keep, best


def compared(kind: str, zero_duration: str = ZERO_DURATION) -> Comparison:
    """Arrivals of one kind under ours and under the others, each tuned to what ours costs."""
    traces = traces_of(kind)
    each = [World(trace, Ours(zero_duration)).run() for trace in traces]
    ours = Outcome()
    for outcome in each:
        ours.add(outcome)
    keep, idle = idle_as_costly(traces, ours.replica_seconds)
    return Comparison(ours, fixed_as_fast(traces, each), replay(traces, Alert), idle, keep)


def main() -> None:
    for kind in KINDS:
        found = compared(kind, *sys.argv[1:])
        named = {
            "ours": found.ours,
            "fixed at our p99": found.fixed,
            "OpenFaaS alert": found.alert,
            f"zero after {found.keep:.0f} s": found.idle,
        }
        for name, outcome in named.items():
            sys.stdout.write(
                f"{kind:13} {name:20} cold {outcome.cold:6} starts {outcome.starts:6}  "
                f"p99 {outcome.p99:8.3f} s  "
                f"replica-seconds {outcome.replica_seconds:10.0f}  failed {outcome.failed}\n"
            )


if __name__ == "__main__":
    main()
