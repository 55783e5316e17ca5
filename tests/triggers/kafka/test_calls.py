from dataclasses import dataclass

import pytest

from triggers.kafka.calls import NotAnElementError, call_headers, element, outcomes_of
from triggers.kafka.records import Done, Failed


@dataclass(frozen=True, slots=True)
class FakeRecord:
    value: bytes | None = b""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "t"
    partition: int = 2
    offset: int = 9
    timestamp: int = 1700000000000


def headers(**parts: object) -> dict[str, str]:
    found = call_headers(FakeRecord(**parts), "application/json", "g")  # type: ignore[arg-type] # by name
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def test_plain_record_has_its_place_and_the_default_type() -> None:
    assert headers() == {
        "X-Topic": "t",
        "X-Connector": "kafka",
        "X-Kafka-Partition": "2",
        "X-Kafka-Offset": "9",
        "X-Kafka-Timestamp": "1700000000000",
        "Idempotency-Key": "g/t/2/9",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    ("key", "text", "encoding"),
    [
        (b"plain", "plain", None),
        (b"", "", None),
        (b"\x00\x01", "AAE=", "b64"),
        ("é".encode(), "w6k=", "b64"),
        (b"a\r\nx: y", "YQ0KeDogeQ==", "b64"),
        (b" edge", "IGVkZ2U=", "b64"),
    ],
)
def test_key_that_no_header_line_carries_is_base64(
    key: bytes, text: str, encoding: str | None
) -> None:
    found = headers(key=key)
    assert (found["X-Kafka-Key"], found.get("X-Kafka-Key-Enc")) == (text, encoding)


def test_cloud_event_in_binary_mode_keeps_its_attributes() -> None:
    found = headers(
        headers=(
            ("ce_specversion", b"1.0"),
            ("ce_type", b"made"),
            ("content-type", b"application/avro"),
        )
    )
    assert (found["ce-specversion"], found["ce-type"]) == ("1.0", "made")
    assert found["Content-Type"] == "application/avro"


def test_cloud_event_in_structured_mode_keeps_its_type() -> None:
    kind = b"application/cloudevents+json; charset=UTF-8"
    assert headers(headers=(("content-type", kind),))["Content-Type"] == kind.decode()


def test_record_headers_cannot_pose_as_the_connectors_or_break_the_request() -> None:
    found = headers(headers=(("partition", b"7"), ("a b\r\n", b"x"), ("empty", None)))
    assert found["X-Kafka-Partition"] == "2"
    assert found["X-Kafka-Header-partition"] == "7"
    assert found["X-Kafka-a-b--"] == "x"
    assert found["X-Kafka-empty"] == ""


def test_headers_over_the_limits_are_counted_instead() -> None:
    many = tuple((f"h{number}", b"x" * 1000) for number in range(100))
    found = headers(headers=many)
    assert int(found["X-Kafka-Headers-Dropped"]) == 100 - sum(
        name.startswith("X-Kafka-h") for name in found
    )
    assert sum(len(name) + len(value) for name, value in found.items()) < 40_000


@pytest.mark.parametrize(
    ("record", "kind", "text"),
    [
        (FakeRecord(b'{"a": 1}'), "application/json", b'{"a": 1}'),
        (FakeRecord(None), "application/json", b"null"),
        (FakeRecord(b'a"b'), "text/plain; charset=utf-8", b'"a\\"b"'),
        (FakeRecord(b"\xff"), "application/octet-stream", b'"/w=="'),
        (
            FakeRecord(b"1", headers=(("Content-Type", b"application/cloudevents+json"),)),
            "text/plain",
            b"1",
        ),
    ],
)
def test_element_of_a_batch_is_json_by_the_records_type(
    record: FakeRecord, kind: str, text: bytes
) -> None:
    assert element(record, kind) == text


@pytest.mark.parametrize(("value", "kind"), [(b"{", "application/json"), (b"\xff", "text/csv")])
def test_element_that_is_not_what_its_type_says_is_refused(value: bytes, kind: str) -> None:
    with pytest.raises(NotAnElementError):
        element(FakeRecord(value), kind)


def test_answer_to_a_batch_says_of_each_record_what_became_of_it() -> None:
    body = b'[1, {"error": "late"}, {"error": "never", "retry": false}, {"error": null}]'
    assert outcomes_of(body, 4, wants_values=True) == [
        Done(b"1", "application/json"),
        Failed("late"),
        Failed("never", permanent=True),
        Done(b'{"error":null}', "application/json"),
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[1,2,3]"])
def test_answer_that_does_not_fit_the_batch_is_a_failure_of_all(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer to a batch|array of 2 results"):
        outcomes_of(body, 2, wants_values=False)
