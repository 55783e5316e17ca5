"""What is published for a record: its result, or the record itself as a dead letter.

A dead letter keeps key, value and headers of the record; headers `sluice-*` are added.
"""

from dataclasses import replace

from triggers.kafka.publisher import Message
from triggers.kafka.records import Done, Failed, Record
from triggers.kafka.topics import Subscription

LONGEST_REASON = 1000


def dead_letter(
    topic: str, subscription: Subscription, record: Record, outcome: Failed, tries: int
) -> Message:
    """The record with where it was from and why it failed."""
    why = [
        *_origin(record),
        ("sluice-function", subscription.target.encode()),
        ("sluice-reason", outcome.reason[:LONGEST_REASON].encode(errors="replace")),
        ("sluice-status", str(outcome.status).encode()),
        ("sluice-tries", str(tries).encode()),
    ]
    kept = [(name, value or b"") for name, value in record.headers if not _is_ours(name)]
    return Message(topic, record.key, record.value, (*kept, *why))


def shortened(message: Message) -> Message:
    """A dead letter the broker refused for its size, without its value and others' headers.

    The record is still in its own topic, at the offset that the headers name.
    """
    ours = tuple(pair for pair in message.headers if _is_ours(pair[0]))
    return replace(message, key=None, value=b"", headers=(*ours, ("sluice-shortened", b"true")))


def result_message(topic: str, record: Record, result: Done) -> Message:
    """The function's response under the record's key."""
    headers = _origin(record)
    if result.content_type:
        headers.append(("content-type", result.content_type.encode("latin-1", "replace")))
    return Message(topic, record.key, result.result, tuple(headers))


def _origin(record: Record) -> list[tuple[str, bytes]]:
    return [
        ("sluice-topic", record.topic.encode()),
        ("sluice-partition", str(record.partition).encode()),
        ("sluice-offset", str(record.offset).encode()),
        ("sluice-timestamp", str(record.timestamp).encode()),
    ]


def _is_ours(name: str) -> bool:
    return name.startswith("sluice-")
