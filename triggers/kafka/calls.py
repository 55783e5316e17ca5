"""Records as calls of a function: headers, body, and the outcome of each record.

CloudEvents in binary mode: `ce_` record headers become `ce-` headers, content-type is the
record's. In structured mode the record's content type and value go out as they are, which is
structured mode over HTTP too: nothing is unpacked, the function sees what was published.

A batch is one call with a JSON array. An element is the record's value: as it is where its content
type is JSON, as a string where it is text, as base64 otherwise, null for a tombstone. The response
is an array of the same length; an element that is an object with a key `error` says that its record
failed, and with `"retry": false` beside it, that another try is of no use.
"""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from service.errors import CallTimeoutError, GatewayUnavailableError, ResponseTooLargeError
from service.gateway_client import FunctionCaller, FunctionResponse
from triggers.kafka.records import Done, Failed, Outcome, Record, Unavailable
from triggers.kafka.topics import Subscription

Headers = list[tuple[str, str]]

# The gateway takes 100 header fields and 64 KiB; these leave room for its own.
MOST_HEADERS: Final = 64
MOST_BYTES: Final = 32 * 1024
CONNECTOR: Final = ("X-Connector", "kafka")
NOT_A_TOKEN: Final = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]")
CLOUD_EVENT: Final = re.compile(r"ce_([a-z0-9]+)")
# Header names that the connector sets itself.
OWN: Final = frozenset({"partition", "offset", "key", "key-enc", "timestamp"})
# Statuses of the gateway itself when no replica took the call; a function may use them too.
NOT_TAKEN: Final = frozenset({404, 429, 503})
GATEWAYS_OWN: Final = "x-openfaas-internal"
LONGEST_REASON: Final = 500
DONE: Final = Done(b"", "")


class Caller:
    """Calls one subscription's function. timeout: seconds, where the options name none."""

    def __init__(self, subscription: Subscription, gateway: FunctionCaller, timeout: float) -> None:
        self._subscription, self._gateway = subscription, gateway
        options = subscription.options
        self._options = options
        self._timeout = options.timeout or timeout
        self._asynchronous = options.mode == "async"
        self._wants_results = bool(options.result_topic)

    async def call(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """One outcome a record; a single Unavailable when none of them was taken."""
        if self._options.batch_size == 1:
            return (await self._call_one(records[0]),)
        return await self._call_batch(records)

    async def _call_one(self, record: Record) -> Outcome:
        group, kind = self._subscription.group, self._options.content_type
        response = await self._ask(call_headers(record, kind, group), record.value or b"")
        if not isinstance(response, FunctionResponse):
            return response
        if not self._wants_results:
            return DONE
        return Done(response.body, response.header("content-type"))

    async def _call_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        elements: list[bytes] = []
        fit: list[Record] = []
        spoilt: dict[int, Outcome] = {}
        for record in records:
            try:
                elements.append(element(record, self._options.content_type))
                fit.append(record)
            except NotAnElementError as error:
                spoilt[record.offset] = Failed(str(error), permanent=True)
        outcomes = await self._call_array(fit, elements) if fit else ()
        if isinstance(outcomes, Unavailable):
            return (outcomes,)
        called = iter(outcomes)
        return [spoilt.get(record.offset) or next(called) for record in records]

    async def _call_array(
        self, records: Sequence[Record], elements: list[bytes]
    ) -> Sequence[Outcome] | Unavailable:
        headers = batch_headers(records, self._subscription.group)
        response = await self._ask(headers, b"[" + b",".join(elements) + b"]")
        if isinstance(response, Unavailable):
            return response
        if isinstance(response, FunctionResponse):
            try:
                return outcomes_of(response.body, len(records), self._wants_results)
            except ValueError as error:
                response = Failed(str(error), response.status)
        return [replace(response, together=len(records) > 1)] * len(records)

    async def _ask(
        self, headers: Sequence[tuple[str, str]], body: bytes
    ) -> FunctionResponse | Failed | Unavailable:
        try:
            response = await self._gateway.call(
                self._subscription.target,
                headers=headers,
                body=body,
                timeout=self._timeout,
                asynchronous=self._asynchronous,
            )
        except GatewayUnavailableError as error:
            return Unavailable(str(error))
        except (CallTimeoutError, ResponseTooLargeError) as error:
            return Failed(str(error))
        return response if response.succeeded else self._refusal(response)

    def _refusal(self, response: FunctionResponse) -> Failed | Unavailable:
        reason = (
            f"{response.status}: {response.body[:LONGEST_REASON].decode(errors='replace').strip()}"
        )
        refused = response.status in NOT_TAKEN and response.header(GATEWAYS_OWN)
        if refused or self._asynchronous:
            return self._not_taken(response, reason)
        permanent = response.status not in self._options.retry_codes
        return Failed(reason, response.status, permanent)

    def _not_taken(self, response: FunctionResponse, reason: str) -> Failed | Unavailable:
        if response.status < 500 and response.status not in NOT_TAKEN:
            return Failed(reason, response.status, permanent=True)  # 400, 413: never to be taken
        return Unavailable(reason)


# Headers.


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
    records_id = f"{first.topic}/{first.partition}/{first.offset}-{last.offset}"
    return [
        ("X-Topic", first.topic),
        CONNECTOR,
        ("X-Kafka-Partition", str(first.partition)),
        ("X-Kafka-Offset", str(first.offset)),
        ("X-Kafka-Last-Offset", str(last.offset)),
        ("X-Kafka-Batch-Size", str(len(records))),
        ("X-Kafka-Timestamp", str(first.timestamp)),
        ("Idempotency-Key", f"{group}/{records_id}/{len(records)}"),
        ("Content-Type", "application/json"),
    ]


def content_type_of(record: Record, default: str) -> str:
    """The record's own content type, else `default`."""
    for name, value in record.headers:
        if name.lower() == "content-type" and value and _is_plain(value):
            return value.decode()
    return default


def record_headers(pairs: Iterable[tuple[str, bytes | None]], content_type: str) -> Headers:
    """A record's headers for HTTP, with Content-Type; headers over the limits are counted."""
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


# Batches.


class NotAnElementError(ValueError):
    """A value that does not fit its content type and would break the whole array."""


def element(record: Record, default_type: str) -> bytes:
    """The record's value as a JSON text. Raises NotAnElementError."""
    value = record.value
    if value is None:
        return b"null"
    kind = content_type_of(record, default_type) if record.headers else default_type
    kind = kind.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        try:
            json.loads(value)
        except ValueError as error:
            raise NotAnElementError(f"the value is not JSON: {error}") from error
        return value
    if kind.startswith("text/"):
        try:
            return json.dumps(value.decode()).encode()
        except UnicodeDecodeError as error:
            raise NotAnElementError(f"the value is not UTF-8: {error.reason}") from error
    return json.dumps(base64.b64encode(value).decode()).encode()


def outcomes_of(body: bytes, count: int, wants_values: bool) -> list[Outcome]:
    """The outcome of each record by the function's 2xx response. Raises ValueError for others.

    wants_values: whether results are published; else their bytes are left out.
    """
    try:
        values = json.loads(body)
    except ValueError as error:
        raise ValueError(f"the answer to a batch is not JSON: {error}") from error
    if not isinstance(values, list) or len(values) != count:
        got = f"{len(values)} elements" if isinstance(values, list) else type(values).__name__
        raise ValueError(f"expected an array of {count} results, got {got}")
    return [_outcome(value, wants_values) for value in values]


def _outcome(value: Any, wants_values: bool) -> Outcome:
    if isinstance(value, dict) and value.get("error") is not None:
        reason = str(value["error"])[:LONGEST_REASON]
        return Failed(reason, permanent=value.get("retry") is False)
    if not wants_values:
        return Done(b"", "")
    return Done(json.dumps(value, separators=(",", ":")).encode(), "application/json")
