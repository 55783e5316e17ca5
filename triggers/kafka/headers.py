"""Records as HTTP: the headers of a call, CloudEvents included.

CloudEvents in binary mode: `ce_` record headers become `ce-` headers, content-type is the
record's. In structured mode the record's content type and value go out as they are, which is
structured mode over HTTP too: nothing is unpacked, the function sees what was published.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

Headers = list[tuple[str, str]]

# The gateway takes 100 header fields and 64 KiB; these leave room for its own.
MOST_HEADERS: Final = 64
MOST_BYTES: Final = 32 * 1024
CONNECTOR: Final = ("X-Connector", "kafka")
NOT_A_TOKEN: Final = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]")
CLOUD_EVENT: Final = re.compile(r"ce_([a-z0-9]+)")
# Names that the connector gives itself.
OWN: Final = frozenset({"partition", "offset", "key", "key-enc", "timestamp"})


class Record(Protocol):
    """What is read of kafka-python's ConsumerRecord."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def call_headers(record: Record, content_type: str, group: str) -> Headers:
    """The headers of the call for one record.

    The idempotency key is the same each time the record is called, so that the gateway's queue
    takes it once.
    """
    topic, partition, offset = record.topic, str(record.partition), str(record.offset)
    headers = [
        ("X-Topic", topic),
        CONNECTOR,
        ("X-Kafka-Partition", partition),
        ("X-Kafka-Offset", offset),
        ("X-Kafka-Timestamp", str(record.timestamp)),
        ("Idempotency-Key", f"{group}/{topic}/{partition}/{offset}"),
    ]
    if record.key is not None:
        headers += _encoded("X-Kafka-Key", record.key)
    if record.headers:
        return headers + record_headers(record.headers, content_type)
    headers.append(("Content-Type", content_type))
    return headers


def batch_headers(records: Sequence[Record], group: str) -> Headers:
    """The headers of the call for several records of one partition, in rising order of offsets."""
    first, last = records[0], records[-1]
    partition_id = f"{first.topic}/{first.partition}/{first.offset}-{last.offset}"
    return [
        ("X-Topic", first.topic),
        CONNECTOR,
        ("X-Kafka-Partition", str(first.partition)),
        ("X-Kafka-Offset", str(first.offset)),
        ("X-Kafka-Last-Offset", str(last.offset)),
        ("X-Kafka-Batch-Size", str(len(records))),
        ("X-Kafka-Timestamp", str(first.timestamp)),
        ("Idempotency-Key", f"{group}/{partition_id}/{len(records)}"),
        ("Content-Type", "application/json"),
    ]


def content_type_of(record: Record, default: str) -> str:
    """The record's own content type, else `default`."""
    for name, value in record.headers:
        if name.lower() == "content-type" and value and _is_plain(value):
            return value.decode()
    return default


def record_headers(pairs: Iterable[tuple[str, bytes | None]], content_type: str) -> Headers:
    """A record's headers for HTTP, with Content-Type; what is over the limits is counted."""
    found: Headers = []
    left, dropped = MOST_BYTES, 0
    for name, value in pairs:
        lower = name.lower()
        if lower == "content-type" and value and _is_plain(value):
            content_type = value.decode()
            continue
        new = _encoded(header_name(lower), value or b"")
        size = sum(len(one) + len(text) for one, text in new)
        if len(found) + len(new) > MOST_HEADERS or size > left:
            dropped += 1
            continue
        left -= size
        found += new
    if dropped:
        found.append(("X-Kafka-Headers-Dropped", str(dropped)))
    found.append(("Content-Type", content_type))
    return found


@lru_cache(maxsize=4096)
def header_name(name: str) -> str:
    """The HTTP name of a record header: ce-NAME of a CloudEvent's, else X-Kafka-NAME."""
    if event := CLOUD_EVENT.fullmatch(name):
        return f"ce-{event[1]}"
    token = NOT_A_TOKEN.sub("-", name) or "-"
    return f"X-Kafka-Header-{token}" if token in OWN else f"X-Kafka-{token}"


def _encoded(name: str, value: bytes) -> Headers:
    if _is_plain(value):
        return [(name, value.decode())]
    return [(name, base64.b64encode(value).decode()), (f"{name}-Enc", "b64")]


def _is_plain(value: bytes) -> bool:
    """Whether a header line can carry it as it is: printable ASCII, no space at its ends."""
    return value.isascii() and value.decode().isprintable() and value == value.strip()
