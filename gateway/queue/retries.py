"""Whether a response ends a queued call, and how long to wait before the next attempt. No I/O."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Self

from gateway.types.errors import InvalidRequestError
from gateway.types.scaling import read_value
from sluice.settings import parse_duration, parse_positive_count

ATTEMPTS: Final = "com.openfaas.retry.attempts"
CODES: Final = "com.openfaas.retry.codes"
MIN_WAIT: Final = "com.openfaas.retry.min_wait"
MAX_WAIT: Final = "com.openfaas.retry.max_wait"
CONCURRENCY: Final = "com.sluice.async.concurrency"
# OpenFaaS's chart: contracts of its queue worker.
DEFAULT_CODES: Final = frozenset({408, 429, 500, 502, 503, 504})
# Only with these does Retry-After say when to repeat a request (RFC 9110, RFC 6585).
RETRY_AFTER_CODES: Final = frozenset({429, 503})
# 2 ** 40 milliseconds are longer than any max_wait.
LARGEST_EXPONENT: Final = 40

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a call is tried again. attempts: with the first; waits: seconds."""

    attempts: int = 100
    codes: frozenset[int] = DEFAULT_CODES
    min_wait: float = 10.0
    max_wait: float = 120.0

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> Self:
        """The policy that `annotations` ask for.

        Raises InvalidRequestError naming annotation, value and rule.
        """
        rule = cls()
        policy = cls(
            attempts=read_value(annotations, ATTEMPTS, parse_positive_count, rule.attempts),
            codes=read_value(annotations, CODES, _codes, rule.codes),
            min_wait=read_value(annotations, MIN_WAIT, parse_duration, rule.min_wait),
            max_wait=read_value(annotations, MAX_WAIT, parse_duration, rule.max_wait),
        )
        if MAX_WAIT in annotations and policy.max_wait < policy.min_wait:
            raise InvalidRequestError(
                f"{MAX_WAIT}={annotations[MAX_WAIT]!r}: expected no less than {MIN_WAIT}, "
                f"which is {policy.min_wait:g} s"
            )
        return policy

    def retries(self, status: int, internal: bool) -> bool:
        """Whether a response leads to another attempt; internal: it was not the function's."""
        return internal or status in self.codes

    def wait(self, attempt: int, asked: float | None, jitter: Callable[[], float]) -> float:
        """Seconds until the attempt after number `attempt`.

        jitter: a number from 0 to 1. asked: the time in Retry-After, a lower bound.
        """
        return max(asked or 0.0, backoff(attempt, self.min_wait, self.max_wait, jitter))


def backoff(
    attempt: int, first: float, longest: float, jitter: Callable[[], float] = random.random
) -> float:
    """Seconds to wait after attempt number `attempt`: full jitter over a doubling range.

    Source: AWS Architecture Blog, Exponential Backoff And Jitter.
    """
    exponent = min(attempt - 1, LARGEST_EXPONENT)
    return jitter() * min(longest, first * 2.0**exponent)


def retry_after(status: int, headers: Pairs, now: float, longest: float) -> float | None:
    """Seconds to wait by a response's Retry-After, at most `longest`; None without one."""
    if status not in RETRY_AFTER_CODES:
        return None
    text = next((v for name, v in headers if name == b"retry-after"), b"").decode("latin-1")
    # isdigit alone is true of Latin-1's superscripts, which float refuses.
    if text.strip().isdecimal():
        return min(float(text), longest)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    return min(max(0.0, seconds), longest)


def concurrency(annotations: Mapping[str, str], default: int) -> int:
    """Queued calls of the function that run at once. Raises InvalidRequestError."""
    return read_value(annotations, CONCURRENCY, parse_positive_count, default)


def _codes(text: str) -> frozenset[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 100 <= int(part) <= 999 for part in parts):
        raise ValueError("status codes such as 429,503")
    return frozenset(map(int, parts))
