"""Annotations about events: which topics a function consumes, and when it is called by schedule.

The triggers read them.
"""

from typing import Any, Final

from sluice.labels.label import Label, ValueType
from sluice.labels.values import (
    DURATION,
    FLAG,
    TOPIC,
    Misfire,
    between,
    either,
    parse_kafka_codes,
    parse_media_type,
    parse_misfire,
)
from sluice.settings import parse_text

KAFKA_PREFIX: Final = "com.sluice.kafka."
CRON_PREFIX: Final = "com.sluice.cron."
# The value of `topic` that asks for calls by schedule.
CRON_TOPIC: Final = "cron-function"

CRON_SOURCE: Final = "triggers: cron"
KAFKA_SOURCE: Final = "triggers: Kafka"

EVENT_TOPIC: Final = Label(
    "topic",
    "annotation",
    ValueType("topics with commas between, or cron-function alone", parse_text),
    "",
    "Kafka topics that the function consumes; cron-function: it is called by its schedule.",
    f"{CRON_SOURCE}, {KAFKA_SOURCE}",
)
SCHEDULE: Final = Label(
    "schedule",
    "annotation",
    ValueType("schedules with `;` between", parse_text),
    "",
    "When the function is called, for topic cron-function.",
    CRON_SOURCE,
)
CRON_TIMEZONE: Final = Label(
    f"{CRON_PREFIX}timezone",
    "annotation",
    ValueType("name of the tz database", str.strip),
    "UTC",
    "Zone of schedules that name none.",
    CRON_SOURCE,
)
CRON_MISFIRE: Final[Label[Misfire]] = Label(
    f"{CRON_PREFIX}misfire",
    "annotation",
    ValueType("skip, run-once, backfill", parse_misfire),
    "skip",
    "What becomes of fire times that no process was there for: skip them, call for the newest "
    "(run-once), or for the newest 100 (backfill).",
    CRON_SOURCE,
    empty_is_absent=False,
)
CRON_ASYNC: Final = Label(
    f"{CRON_PREFIX}async",
    "annotation",
    FLAG,
    "false",
    "Whether the call goes to /async-function/.",
    CRON_SOURCE,
    empty_is_absent=False,
)
CRON: Final[tuple[Label[Any], ...]] = (CRON_TIMEZONE, CRON_MISFIRE, CRON_ASYNC)

KAFKA_MODE: Final = Label(
    f"{KAFKA_PREFIX}mode",
    "annotation",
    either("sync", "async"),
    "sync",
    "sync: the record is done when the function responded 2xx; async: when the gateway's "
    "durable queue accepted the call; the queue then does the retries.",
    KAFKA_SOURCE,
)
KAFKA_START_OFFSET: Final = Label(
    f"{KAFKA_PREFIX}start-offset",
    "annotation",
    either("earliest", "latest"),
    "earliest",
    "Where a group without committed offsets begins.",
    KAFKA_SOURCE,
)
KAFKA_ORDER: Final = Label(
    f"{KAFKA_PREFIX}order",
    "annotation",
    either("partition", "key"),
    "partition",
    "partition: one call at a time for each partition; key: one at a time for each key, with "
    "no order among records without a key.",
    KAFKA_SOURCE,
)
KAFKA_MAX_IN_FLIGHT: Final = Label(
    f"{KAFKA_PREFIX}max-in-flight",
    "annotation",
    between(1, 1000),
    "32",
    "Calls at the same time, over all partitions of one connector.",
    KAFKA_SOURCE,
)
KAFKA_BATCH_SIZE: Final = Label(
    f"{KAFKA_PREFIX}batch-size",
    "annotation",
    between(1, 10_000),
    "1",
    "Most records of a call; above 1 the body is a JSON array, and so is the response.",
    KAFKA_SOURCE,
)
KAFKA_BATCH_LINGER: Final = Label(
    f"{KAFKA_PREFIX}batch-linger",
    "annotation",
    DURATION,
    "0s",
    "How long a batch that is not full waits for more records; 0: not at all.",
    KAFKA_SOURCE,
)
KAFKA_RETRIES: Final = Label(
    f"{KAFKA_PREFIX}retries",
    "annotation",
    between(0, 1000),
    "5",
    "How often the call of a failed record is repeated before it is a dead letter.",
    KAFKA_SOURCE,
)
KAFKA_RETRY_MIN_WAIT: Final = Label(
    f"{KAFKA_PREFIX}retry-min-wait",
    "annotation",
    DURATION,
    "1s",
    "Wait before the first retry; it doubles with each, minus a random part of up to half.",
    KAFKA_SOURCE,
)
KAFKA_RETRY_MAX_WAIT: Final = Label(
    f"{KAFKA_PREFIX}retry-max-wait",
    "annotation",
    DURATION,
    "30s",
    "Longest wait between two retries.",
    KAFKA_SOURCE,
)
KAFKA_RETRY_CODES: Final = Label(
    f"{KAFKA_PREFIX}retry-codes",
    "annotation",
    ValueType("status codes, 100 to 599", parse_kafka_codes),
    "408,429,500,502,503,504",
    "Statuses that are retried; any other that is not 2xx is a dead letter at once.",
    KAFKA_SOURCE,
)
KAFKA_DEAD_LETTER_TOPIC: Final = Label(
    f"{KAFKA_PREFIX}dead-letter-topic",
    "annotation",
    TOPIC,
    "",
    "Topic for records that failed; empty: sluice.dead-letter.NAMESPACE.NAME; "
    "none: they are counted, logged and dropped.",
    KAFKA_SOURCE,
)
KAFKA_RESULT_TOPIC: Final = Label(
    f"{KAFKA_PREFIX}result-topic",
    "annotation",
    TOPIC,
    "",
    "Topic that responses are published to; empty: none.",
    KAFKA_SOURCE,
)
KAFKA_CONTENT_TYPE: Final = Label(
    f"{KAFKA_PREFIX}content-type",
    "annotation",
    ValueType("media type", parse_media_type),
    "application/json",
    "Content-Type of a call whose record has no content-type header.",
    KAFKA_SOURCE,
)
KAFKA_TIMEOUT: Final = Label(
    f"{KAFKA_PREFIX}timeout",
    "annotation",
    DURATION,
    "0s",
    "Time a call may take; 0: SLUICE_TRIGGERS_UPSTREAM_TIMEOUT.",
    KAFKA_SOURCE,
)
KAFKA: Final[tuple[Label[Any], ...]] = (
    KAFKA_MODE,
    KAFKA_START_OFFSET,
    KAFKA_ORDER,
    KAFKA_MAX_IN_FLIGHT,
    KAFKA_BATCH_SIZE,
    KAFKA_BATCH_LINGER,
    KAFKA_RETRIES,
    KAFKA_RETRY_MIN_WAIT,
    KAFKA_RETRY_MAX_WAIT,
    KAFKA_RETRY_CODES,
    KAFKA_DEAD_LETTER_TOPIC,
    KAFKA_RESULT_TOPIC,
    KAFKA_CONTENT_TYPE,
    KAFKA_TIMEOUT,
)
