"""What a developer may write about a function's scaling: the table for the docs. No I/O."""

from dataclasses import dataclass
from typing import Final

from gateway.api.openfaas.alert import DEFAULT_FACTOR, FACTOR_LABEL
from gateway.autoscaling import policy
from gateway.types import scaling


@dataclass(frozen=True, slots=True)
class Option:
    """One label or annotation. default: as one would write it, empty where there is none."""

    key: str
    kind: str
    default: str
    meaning: str


def _label(key: str, default: object, meaning: str) -> Option:
    return Option(key, "label", str(default), meaning)


def _annotation(key: str, default: object, meaning: str) -> Option:
    return Option(key, "annotation", str(default), meaning)


OPTIONS: Final = (
    _label(
        scaling.MIN_LABEL,
        scaling.DEFAULT_MIN,
        "Fewest replicas while it is awake; 0: deployed at zero, woken to one.",
    ),
    _label(
        scaling.MAX_LABEL,
        scaling.DEFAULT_MAX,
        f"Most replicas; {policy.STANDARD_MAX} with neither type nor target. "
        "The same as the least: load does not steer it.",
    ),
    _label(
        policy.TYPE_LABEL,
        policy.Signal.RPS.value,
        "What load is: rps, calls a second; capacity, calls at once, those that wait among them; "
        "cpu, thousandths of a core; queue, records and asynchronous calls that wait.",
    ),
    _label(
        policy.TARGET_LABEL,
        f"{policy.DEFAULT_TARGET:g}",
        f"Load of one replica; {policy.STANDARD_TARGET:g} calls a second with neither type "
        "nor target; with type capacity never more than its concurrency.",
    ),
    _label(
        policy.PROPORTION_LABEL,
        policy.DEFAULT_PROPORTION,
        "Share of the target at which a replica is full, above 0 and up to 1; none is left free "
        "with neither type nor target.",
    ),
    _label(scaling.ZERO_LABEL, "false", "Whether it goes to zero when no call comes."),
    _label(
        policy.ZERO_DURATION_LABEL,
        f"{policy.DEFAULT_ZERO_SECONDS / 60:g}m",
        "Time without a call, under way or waiting, after which it goes to zero.",
    ),
    _label(
        policy.DOWN_WINDOW_LABEL,
        "0s",
        "Time for which the highest count asked for stands before it falls, up to "
        f"{policy.LONGEST_DOWN_WINDOW / 60:g}m.",
    ),
    _label(
        FACTOR_LABEL,
        DEFAULT_FACTOR,
        "Percent of the most replicas that an alert adds at /system/alert; 0: alerts do nothing.",
    ),
    _annotation(
        policy.WINDOW_ANNOTATION,
        f"{policy.DEFAULT_WINDOW}s",
        f"Time over which load is averaged, 6s to 1h; {policy.STANDARD_WINDOW}s with neither "
        "type nor target. A burst is seen in a tenth of it.",
    ),
    _annotation(
        scaling.CONCURRENCY_ANNOTATION,
        "0",
        "Most calls at once on one replica, the others wait for a slot; 0: no bound but its "
        "max_inflight. May be a label too.",
    ),
)
