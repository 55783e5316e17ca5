"""Labels and annotations about functions: scaling, calls, asynchronous calls.

The gateway reads them; the last two are what it adds to a function that it describes.
"""

from typing import Any, Final

from sluice.labels.label import Label, ValueType
from sluice.labels.values import (
    COUNT,
    DURATION,
    FLAG,
    LONGEST_DOWN_WINDOW,
    POSITIVE_COUNT,
    POSITIVE_DURATION,
    SMALLEST_TARGET,
    TEXT,
    ScaleType,
    parse_down_window,
    parse_number,
    parse_percent,
    parse_retry_codes,
    parse_scale_type,
    parse_share,
    parse_window,
)

# How OpenFaaS's standard alert rule scales a function with neither a type nor a target label.
STANDARD_TARGET: Final = 5.0
STANDARD_MAX: Final = 5
STANDARD_WINDOW: Final = 30

AUTOSCALER: Final = "gateway: autoscaler"
CALL_PATH: Final = "gateway: calls"
QUEUE: Final = "gateway: queue"
CLIENTS: Final = "clients"

# Scaling.

SCALE_MIN: Final = Label(
    "com.openfaas.scale.min",
    "label",
    COUNT,
    "1",
    "Fewest replicas unless it is at zero; 0: it is deployed at zero and scaled from there to one.",
    f"{AUTOSCALER}, {CALL_PATH}, provider",
)
SCALE_MAX: Final = Label(
    "com.openfaas.scale.max",
    "label",
    POSITIVE_COUNT,
    "20",
    f"Most replicas; {STANDARD_MAX} with neither type nor target. "
    "The same as the minimum: load does not scale it.",
    f"{AUTOSCALER}, {CALL_PATH}",
)
SCALE_TYPE: Final = Label(
    "com.openfaas.scale.type",
    "label",
    ValueType(", ".join(ScaleType), parse_scale_type),
    ScaleType.RPS.value,
    "What load is: rps, calls a second; capacity, calls at once, including those that wait; "
    "cpu, thousandths of a core; queue, records and asynchronous calls that wait.",
    AUTOSCALER,
)
SCALE_TARGET: Final = Label(
    "com.openfaas.scale.target",
    "label",
    ValueType(f"number, {SMALLEST_TARGET} or more", parse_number),
    "50",
    f"Load of one replica; {STANDARD_TARGET:g} calls a second with neither type "
    "nor target; with type capacity never more than its concurrency.",
    AUTOSCALER,
)
SCALE_TARGET_PROPORTION: Final = Label(
    "com.openfaas.scale.target-proportion",
    "label",
    ValueType("number, above 0 and up to 1", parse_share),
    "0.9",
    "Share of the target at which a replica counts as full; all of it with neither type nor "
    "target.",
    AUTOSCALER,
)
SCALE_ZERO: Final = Label(
    "com.openfaas.scale.zero",
    "label",
    FLAG,
    "false",
    "Whether it is scaled to zero when no call comes.",
    AUTOSCALER,
)
SCALE_ZERO_DURATION: Final = Label(
    "com.openfaas.scale.zero-duration",
    "label",
    POSITIVE_DURATION,
    "15m",
    "Time without a call, under way or waiting, after which it is scaled to zero.",
    AUTOSCALER,
)
SCALE_DOWN_WINDOW: Final = Label(
    "com.openfaas.scale.down.window",
    "label",
    ValueType("duration, at most 5m", parse_down_window),
    "0s",
    "Time for which the highest count of the autoscaler stands before it falls, up to "
    f"{LONGEST_DOWN_WINDOW / 60:g}m.",
    AUTOSCALER,
)
SCALE_FACTOR: Final = Label(
    "com.openfaas.scale.factor",
    "label",
    ValueType("whole number, 0 to 100", parse_percent),
    "10",
    "Percent of the maximum that an alert adds at /system/alert; 0: alerts do nothing.",
    "gateway: alerts",
    empty_is_absent=False,
)
SCALE_WINDOW: Final = Label(
    "com.sluice.scale.window",
    "annotation",
    ValueType("whole seconds, 6s to 1h", parse_window),
    "60s",
    f"Time over which load is averaged, 6s to 1h; {STANDARD_WINDOW}s with neither "
    "type nor target. Bursts are measured over a tenth of it.",
    AUTOSCALER,
)
CONCURRENCY: Final = Label(
    "com.sluice.concurrency",
    "annotation",
    COUNT,
    "0",
    "Most calls at once on one replica, the others wait; 0: no bound but its max_inflight. May be "
    "a label too.",
    f"{CALL_PATH}, {AUTOSCALER}",
)
SCALING: Final[tuple[Label[Any], ...]] = (
    SCALE_MIN,
    SCALE_MAX,
    SCALE_TYPE,
    SCALE_TARGET,
    SCALE_TARGET_PROPORTION,
    SCALE_ZERO,
    SCALE_ZERO_DURATION,
    SCALE_DOWN_WINDOW,
    SCALE_FACTOR,
    SCALE_WINDOW,
    CONCURRENCY,
)

# Calls.

EXEC_TIMEOUT: Final[Label[float | None]] = Label(
    "exec_timeout",
    "annotation",
    POSITIVE_DURATION,
    None,
    "Time that the gateway gives a call; without it exec_timeout of the function's environment, "
    "else SLUICE_CALL_TIMEOUT. May be a label too.",
    CALL_PATH,
)
CALLS: Final[tuple[Label[Any], ...]] = (EXEC_TIMEOUT,)

# Asynchronous calls.

RETRY_ATTEMPTS: Final = Label(
    "com.openfaas.retry.attempts",
    "annotation",
    POSITIVE_COUNT,
    "100",
    "Attempts in all.",
    QUEUE,
)
RETRY_CODES: Final = Label(
    "com.openfaas.retry.codes",
    "annotation",
    ValueType("status codes, 100 to 999", parse_retry_codes),
    # OpenFaaS's chart: contracts of its queue worker.
    "408,429,500,502,503,504",
    "Statuses that are tried again.",
    QUEUE,
)
RETRY_MIN_WAIT: Final = Label(
    "com.openfaas.retry.min_wait",
    "annotation",
    DURATION,
    "10s",
    "Upper bound of the random wait before the second attempt; it doubles with each attempt.",
    QUEUE,
)
RETRY_MAX_WAIT: Final = Label(
    "com.openfaas.retry.max_wait",
    "annotation",
    DURATION,
    "120s",
    "Upper bound of the random wait between any two attempts; no less than min_wait.",
    QUEUE,
)
ASYNC_CONCURRENCY: Final[Label[int]] = Label(
    "com.sluice.async.concurrency",
    "annotation",
    POSITIVE_COUNT,
    None,
    "Queued calls of the function that run at once; SLUICE_QUEUE_CONCURRENCY without it.",
    QUEUE,
)
QUEUED_CALLS: Final[tuple[Label[Any], ...]] = (
    RETRY_ATTEMPTS,
    RETRY_CODES,
    RETRY_MIN_WAIT,
    RETRY_MAX_WAIT,
    ASYNC_CONCURRENCY,
)

# What the gateway itself adds to a function that it describes.

FUNCTION_NAME: Final = Label(
    "faas_function", "label", TEXT, None, "The function's name, set by the gateway.", CLIENTS
)
REASON: Final = Label(
    "com.sluice.reason",
    "annotation",
    TEXT,
    None,
    "Why the function is not as deployed, set by the gateway.",
    CLIENTS,
)
