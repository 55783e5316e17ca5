"""What a function's annotations say about how its topics are consumed: one table."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from sluice.settings import SettingError, load, parse_count, parse_duration, parse_text, setting

PREFIX: Final = "com.sluice.kafka."
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
NO_TOPIC: Final = "none"
MOST_IN_FLIGHT: Final = 1000
MOST_IN_BATCH: Final = 10_000


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return parse


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = parse_count(text)
        if not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return parse


def _topic(text: str) -> str:
    if text and not is_topic(text):
        raise ValueError("a topic: letters, digits, '.', '_' and '-', at most 249")
    return text


def _codes(text: str) -> frozenset[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"[1-5]\d\d", part) for part in parts):
        raise ValueError("HTTP status codes with commas between, such as 429,500,503")
    return frozenset(int(part) for part in parts)


def is_topic(name: str) -> bool:
    """Whether Kafka takes `name` for a topic."""
    return TOPIC.fullmatch(name) is not None and name not in {".", ".."}


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How one function consumes its topics. Durations are seconds."""

    mode: str = setting(
        PREFIX + "mode",
        "sync",
        _one_of("sync", "async"),
        "sync: the record is done when the function answered 2xx; async: when the gateway's "
        "durable queue took the call, which then does the retries.",
    )
    start_offset: str = setting(
        PREFIX + "start-offset",
        "earliest",
        _one_of("earliest", "latest"),
        "Where a group without committed offsets begins.",
    )
    order: str = setting(
        PREFIX + "order",
        "partition",
        _one_of("partition", "key"),
        "partition: one call at a time in each partition; key: one at a time for each key, "
        "others beside it; records without a key have no order then.",
    )
    max_in_flight: int = setting(
        PREFIX + "max-in-flight",
        "32",
        _between(1, MOST_IN_FLIGHT),
        "Calls at the same time, over all partitions of one connector.",
    )
    batch_size: int = setting(
        PREFIX + "batch-size",
        "1",
        _between(1, MOST_IN_BATCH),
        "Most records of a call; above 1 the body is a JSON array and so is the answer.",
    )
    batch_linger: float = setting(
        PREFIX + "batch-linger",
        "0s",
        parse_duration,
        "How long a batch that is not full waits for more records; 0: takes what there is.",
    )
    retries: int = setting(
        PREFIX + "retries",
        "5",
        _between(0, 1000),
        "How often a failed record is called again before it is a dead letter.",
    )
    retry_min_wait: float = setting(
        PREFIX + "retry-min-wait",
        "1s",
        parse_duration,
        "Wait before the first retry; it doubles with each, less up to half by chance.",
    )
    retry_max_wait: float = setting(
        PREFIX + "retry-max-wait", "30s", parse_duration, "Longest wait between two retries."
    )
    retry_codes: frozenset[int] = setting(
        PREFIX + "retry-codes",
        "408,429,500,502,503,504",
        _codes,
        "Statuses that are retried; any other that is not 2xx is a dead letter at once.",
    )
    dead_letter_topic: str = setting(
        PREFIX + "dead-letter-topic",
        "",
        _topic,
        "Topic for records that failed; empty: sluice.dead-letter.NAMESPACE.NAME; "
        "none: they are counted, logged and dropped.",
    )
    result_topic: str = setting(
        PREFIX + "result-topic", "", _topic, "Topic that answers are published to; empty: nowhere."
    )
    content_type: str = setting(
        PREFIX + "content-type",
        "application/json",
        parse_text,
        "Content-Type of a call whose record has no content-type header.",
    )
    timeout: float = setting(
        PREFIX + "timeout",
        "0s",
        parse_duration,
        "Time a call may take; 0: SLUICE_TRIGGERS_UPSTREAM_TIMEOUT.",
    )

    @classmethod
    def load(cls, annotations: Mapping[str, str]) -> Self:
        """The options of `annotations`. Raises SettingError, also for an unknown name."""
        options = load(cls, annotations, PREFIX)
        if options.retry_max_wait < options.retry_min_wait:
            raise SettingError(
                f"{PREFIX}retry-max-wait",
                f"{options.retry_max_wait:g}s",
                f"no less than {PREFIX}retry-min-wait ({options.retry_min_wait:g}s)",
            )
        if not options.content_type.isprintable() or not options.content_type.isascii():
            raise SettingError(f"{PREFIX}content-type", options.content_type, "a media type")
        if options.mode == "async" and options.result_topic:
            raise SettingError(
                f"{PREFIX}result-topic", options.result_topic, f"{PREFIX}mode=sync with it"
            )
        if options.mode == "async" and options.batch_size > 1:
            raise SettingError(
                f"{PREFIX}batch-size", str(options.batch_size), f"{PREFIX}mode=sync with it"
            )
        return options
