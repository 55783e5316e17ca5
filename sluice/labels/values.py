"""What a label or annotation may hold: each type with its bounds and its parser."""

import math
import re
from enum import StrEnum
from typing import Final, Literal

from sluice.labels.label import ValueType
from sluice.settings import (
    parse_count,
    parse_duration,
    parse_flag,
    parse_positive_count,
    parse_positive_duration,
    parse_text,
)

SMALLEST_TARGET: Final = 0.01
LONGEST_DOWN_WINDOW: Final = 300.0
TOPIC_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)

Misfire = Literal["skip", "run-once", "backfill"]


class ScaleType(StrEnum):
    """The unit in which a replica's load is measured."""

    RPS = "rps"
    CAPACITY = "capacity"
    CPU = "cpu"
    QUEUE = "queue"


def is_topic(name: str) -> bool:
    """Whether Kafka takes `name` for a topic."""
    return TOPIC_NAME.fullmatch(name) is not None and name not in {".", ".."}


def parse_number(text: str) -> float:
    """A number of at least SMALLEST_TARGET."""
    if not NUMBER.fullmatch(text):
        raise ValueError("a number above 0 such as 50 or 2.5")
    value = float(text)
    if not SMALLEST_TARGET <= value < math.inf:
        raise ValueError(f"a number of at least {SMALLEST_TARGET}")
    return value


def parse_share(text: str) -> float:
    """A number above 0 and up to 1."""
    if not 0 < (value := parse_number(text)) <= 1:
        raise ValueError("a share above 0 and up to 1")
    return value


def parse_percent(text: str) -> int:
    """A whole number; one above 100 means the same as 0."""
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise ValueError("a whole number, 1 to 100, or 0 for no alerts")
    return int(text)


def parse_down_window(text: str) -> float:
    """Seconds, at most LONGEST_DOWN_WINDOW."""
    if (value := parse_duration(text)) > LONGEST_DOWN_WINDOW:
        raise ValueError("a duration of at most 5m")
    return value


def parse_window(text: str) -> int:
    """Whole seconds from 6 to 3600."""
    value = parse_duration(text)
    if not 6 <= value <= 3600 or value != int(value):
        raise ValueError("whole seconds from 6s to 1h")
    return int(value)


def parse_scale_type(text: str) -> ScaleType:
    """The unit that the text names."""
    try:
        return ScaleType(text)
    except ValueError as error:
        raise ValueError(f"one of {', '.join(ScaleType)}") from error


def parse_misfire(text: str) -> Misfire:
    """What becomes of missed fire times."""
    match text.strip():
        case "skip" | "run-once" | "backfill" as misfire:
            return misfire
    raise ValueError("one of skip, run-once, backfill")


def parse_retry_codes(text: str) -> frozenset[int]:
    """HTTP statuses with commas between, 100 to 999."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 100 <= int(part) <= 999 for part in parts):
        raise ValueError("status codes such as 429,503")
    return frozenset(map(int, parts))


def parse_kafka_codes(text: str) -> frozenset[int]:
    """HTTP statuses with commas between, 100 to 599; empty parts are skipped."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"[1-5]\d\d", part) for part in parts):
        raise ValueError("HTTP status codes with commas between, such as 429,500,503")
    return frozenset(int(part) for part in parts)


def parse_topic(text: str) -> str:
    """A name that Kafka takes for a topic, or nothing."""
    if text and not is_topic(text):
        raise ValueError("a topic: letters, digits, '.', '_' and '-', at most 249")
    return text


def parse_media_type(text: str) -> str:
    """Printable ASCII text."""
    if not text.isprintable() or not text.isascii():
        raise ValueError("a media type")
    return text


def either(one: str, other: str) -> ValueType[str]:
    """One of two words."""

    def parse(text: str) -> str:
        if text not in {one, other}:
            raise ValueError(f"{one} or {other}")
        return text

    return ValueType(f"{one} or {other}", parse)


def between(least: int, most: int) -> ValueType[int]:
    """A whole number from `least` to `most`."""

    def parse(text: str) -> int:
        value = parse_count(text)
        if not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return ValueType(f"whole number, {least} to {most}", parse)


COUNT: Final = ValueType("whole number, 0 or more", parse_count)
POSITIVE_COUNT: Final = ValueType("whole number, 1 or more", parse_positive_count)
DURATION: Final = ValueType("duration", parse_duration)
POSITIVE_DURATION: Final = ValueType("duration above 0", parse_positive_duration)
FLAG: Final = ValueType("true or false", parse_flag)
TEXT: Final = ValueType("text", parse_text)
TOPIC: Final = ValueType("topic", parse_topic)
