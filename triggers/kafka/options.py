"""The annotations about how a function's topics are consumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from sluice.labels import LabelError, check_known
from sluice.labels.events import (
    KAFKA,
    KAFKA_BATCH_LINGER,
    KAFKA_BATCH_SIZE,
    KAFKA_CONTENT_TYPE,
    KAFKA_DEAD_LETTER_TOPIC,
    KAFKA_MAX_IN_FLIGHT,
    KAFKA_MODE,
    KAFKA_ORDER,
    KAFKA_PREFIX,
    KAFKA_RESULT_TOPIC,
    KAFKA_RETRIES,
    KAFKA_RETRY_CODES,
    KAFKA_RETRY_MAX_WAIT,
    KAFKA_RETRY_MIN_WAIT,
    KAFKA_START_OFFSET,
    KAFKA_TIMEOUT,
)

NO_TOPIC: Final = "none"


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How one function consumes its topics. Durations are seconds."""

    mode: str
    start_offset: str
    order: str
    max_in_flight: int
    batch_size: int
    batch_linger: float
    retries: int
    retry_min_wait: float
    retry_max_wait: float
    retry_codes: frozenset[int]
    dead_letter_topic: str
    result_topic: str
    content_type: str
    timeout: float

    @classmethod
    def load(cls, annotations: Mapping[str, str]) -> Self:
        """The options of `annotations`. Raises LabelError, also for an unknown name."""
        check_known(annotations, KAFKA_PREFIX, KAFKA)
        options = cls(
            mode=KAFKA_MODE.read(annotations),
            start_offset=KAFKA_START_OFFSET.read(annotations),
            order=KAFKA_ORDER.read(annotations),
            max_in_flight=KAFKA_MAX_IN_FLIGHT.read(annotations),
            batch_size=KAFKA_BATCH_SIZE.read(annotations),
            batch_linger=KAFKA_BATCH_LINGER.read(annotations),
            retries=KAFKA_RETRIES.read(annotations),
            retry_min_wait=KAFKA_RETRY_MIN_WAIT.read(annotations),
            retry_max_wait=KAFKA_RETRY_MAX_WAIT.read(annotations),
            retry_codes=KAFKA_RETRY_CODES.read(annotations),
            dead_letter_topic=KAFKA_DEAD_LETTER_TOPIC.read(annotations),
            result_topic=KAFKA_RESULT_TOPIC.read(annotations),
            content_type=KAFKA_CONTENT_TYPE.read(annotations),
            timeout=KAFKA_TIMEOUT.read(annotations),
        )
        if options.retry_max_wait < options.retry_min_wait:
            raise LabelError(
                KAFKA_RETRY_MAX_WAIT.name,
                f"{options.retry_max_wait:g}s",
                f"no less than {KAFKA_RETRY_MIN_WAIT.name} ({options.retry_min_wait:g}s)",
            )
        synchronous = f"{KAFKA_MODE.name}=sync with it"
        if options.mode == "async" and options.result_topic:
            raise LabelError(KAFKA_RESULT_TOPIC.name, options.result_topic, synchronous)
        if options.mode == "async" and options.batch_size > 1:
            raise LabelError(KAFKA_BATCH_SIZE.name, str(options.batch_size), synchronous)
        return options
