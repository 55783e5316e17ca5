import pytest

from gateway.queue.retries import RetryPolicy, concurrency, retry_after
from gateway.types.errors import InvalidRequestError
from sluice.backoff import delay

NOW = 1_700_000_000.0


def test_policy_without_annotations_is_openfaas_s() -> None:
    policy = RetryPolicy.parse({})
    assert (policy.attempts, policy.min_wait, policy.max_wait) == (100, 10.0, 120.0)
    assert policy.codes == {408, 429, 500, 502, 503, 504}


def test_policy_is_read_from_annotations() -> None:
    policy = RetryPolicy.parse(
        {
            "com.openfaas.retry.attempts": "3",
            "com.openfaas.retry.codes": "429, 503",
            "com.openfaas.retry.min_wait": "50ms",
            "com.openfaas.retry.max_wait": "1m",
        }
    )
    assert policy == RetryPolicy(3, frozenset({429, 503}), 0.05, 60.0)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("attempts", "0", "a whole number, 1 or more"),
        ("codes", "5xx", "status codes such as 429,503"),
        ("codes", "99", "status codes such as 429,503"),
        ("codes", "٤٢٩", "status codes such as 429,503"),
        ("min_wait", "soon", "a duration such as"),
        ("max_wait", "1s", "no less than com.openfaas.retry.min_wait, which is 10 s"),
    ],
)
def test_annotation_that_does_not_fit_is_named(name: str, value: str, rule: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RetryPolicy.parse({f"com.openfaas.retry.{name}": value})
    assert str(caught.value).startswith(f"com.openfaas.retry.{name}='{value}': expected {rule}")


def test_concurrency_is_the_annotation_s_or_the_default() -> None:
    assert concurrency({}, 10) == 10
    assert concurrency({"com.sluice.async.concurrency": "3"}, 10) == 3
    with pytest.raises(InvalidRequestError, match="concurrency='0'"):
        concurrency({"com.sluice.async.concurrency": "0"}, 10)


def test_wait_doubles_up_to_the_longest_with_full_jitter() -> None:
    most = [delay(attempt, 1.0, 10.0, lambda: 1.0) for attempt in range(1, 7)]
    assert most == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert delay(3, 1.0, 10.0, lambda: 0.0) == 0.0
    assert delay(5000, 1.0, 10.0, lambda: 1.0) == 10.0


def test_answers_are_tried_again_by_status_or_when_the_function_did_not_speak() -> None:
    policy = RetryPolicy(codes=frozenset({503}))
    assert policy.retries(503, internal=False)
    assert not policy.retries(500, internal=False)
    assert policy.retries(404, internal=True)


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, b"7", 7.0),
        (503, b"99999", 600.0),
        (503, b"Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        (503, b"Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        (503, b"later", None),
        (503, b"\xb2", None),
        (503, b"", None),
        (500, b"7", None),
    ],
)
def test_retry_after_is_honoured_for_429_and_503(
    status: int, value: bytes, seconds: float | None
) -> None:
    headers = [(b"content-type", b"text/plain"), (b"retry-after", value)]
    assert retry_after(status, headers, NOW, 600.0) == seconds


def test_wait_is_never_shorter_than_asked() -> None:
    policy = RetryPolicy(min_wait=1.0, max_wait=2.0)
    assert policy.wait(1, 30.0, lambda: 1.0) == 30.0
    assert policy.wait(1, None, lambda: 0.5) == 0.5
