"""How many replicas a function should have: Knative's KPA as a pure function. No I/O."""

import math
from dataclasses import dataclass, replace
from typing import Final

from gateway.types.scaling import ScalingPolicy

SLOT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Decision:
    """A count, and the state that the next decision needs.

    desired: what the load calls for, after the rate limits; replicas: desired within the bounds.
    panic_since: when panic began or was last extended, None in the stable mode; peak: highest
    count of this panic. recent: counts of the last slots of two seconds, for the delay.
    """

    desired: int
    replicas: int
    panic_since: float | None = None
    peak: int = 0
    recent: tuple[tuple[int, int], ...] = ()

    @classmethod
    def found(cls, ready: int, now: float) -> "Decision":
        """The state a decider starts with: in panic where replicas run, so a restart drops none."""
        if ready > 1:
            return cls(ready, ready, panic_since=now, peak=ready)
        return cls(ready, ready)


def decide(
    policy: ScalingPolicy, stable: float, panic: float, ready: int, now: float, past: Decision
) -> Decision:
    """How many replicas to run.

    stable, panic: mean load over the long and the short window, summed over replicas. now:
    monotonic seconds. In panic the count only rises. The order of float operations is the source's,
    without an epsilon: ceil(2.1 / 0.7) is 4 there too. Source: Knative KPA, knative/serving
    pkg/autoscaler/scaling/autoscaler.go, Scale; without the excess-burst mode, since the gateway
    is always in the path.
    """
    running = max(1, ready)
    wanted_stable = math.ceil(stable / policy.target)
    wanted_panic = math.ceil(panic / policy.target)
    overloaded = wanted_panic / running >= policy.panic_threshold
    desired = _limited(policy, wanted_stable, running)
    since = _panic_since(policy, overloaded, now, past)
    peak = 0
    if since is not None:
        peak = max(past.peak, desired, _limited(policy, wanted_panic, running))
        desired = peak
    made = Decision(desired, desired, since, peak, past.recent)
    return _clamped(policy, _delayed(policy, made, now))


def scale_for_backlog(policy: ScalingPolicy, wanted: int, now: float, past: Decision) -> Decision:
    """The count that calls waiting for a slot need at once: a panic that begins now.

    The windows show a burst only after seconds; a queue shows it immediately. Later decisions are
    those of `decide`: the count may rise while the panic lasts, then falls.
    """
    peak = max(past.peak, wanted)
    made = replace(past, desired=peak, replicas=peak, panic_since=now, peak=peak)
    return _clamped(policy, _delayed(policy, made, now))


def scale_for_load(policy: ScalingPolicy, stable: float, panic: float) -> int:
    """The count for the load alone, without rate limits, panic memory or what runs now."""
    wanted = max(math.ceil(stable / policy.target), math.ceil(panic / policy.target), 1)
    return _clamped(policy, Decision(wanted, wanted)).replicas


def _limited(policy: ScalingPolicy, wanted: int, running: int) -> int:
    """`wanted` within the rates at which the count may rise and fall."""
    most = math.ceil(policy.max_up_rate * running)
    least = math.floor(running / policy.max_down_rate)
    return min(max(wanted, least), most)


def _panic_since(
    policy: ScalingPolicy, overloaded: bool, now: float, past: Decision
) -> float | None:
    if overloaded:
        return now
    if past.panic_since is not None and past.panic_since + policy.stable_window < now:
        return None
    return past.panic_since


def _delayed(policy: ScalingPolicy, made: Decision, now: float) -> Decision:
    """The highest count within the scale-down delay: the count falls late, and then in one step."""
    if policy.scale_down_delay <= 0:
        return made
    slot = int(now // SLOT_SECONDS)
    kept = math.ceil(policy.scale_down_delay / SLOT_SECONDS)
    counts = {number: count for number, count in made.recent if number > slot - kept}
    counts[slot] = max(made.desired, counts.get(slot, 0))
    return replace(made, desired=max(counts.values()), recent=tuple(sorted(counts.items())))


def _clamped(policy: ScalingPolicy, made: Decision) -> Decision:
    count = max(made.desired, policy.min_replicas)
    if policy.autoscale_max > 0:
        count = min(count, policy.autoscale_max)
    return replace(made, replicas=count)
