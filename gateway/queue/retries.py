"""Whether a response ends a queued call, and how long to wait before the next attempt. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Self

from gateway.types.errors import InvalidRequestError
from gateway.types.scaling import read_label
from sluice.backoff import delay
from sluice.labels.functions import (
    ASYNC_CONCURRENCY,
    RETRY_ATTEMPTS,
    RETRY_CODES,
    RETRY_MAX_WAIT,
    RETRY_MIN_WAIT,
)

# Only with these does Retry-After say when to repeat a request (RFC 9110, RFC 6585).
RETRY_AFTER_CODES: Final = frozenset({429, 503})

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a call is tried again. attempts: with the first; waits: seconds."""

    attempts: int = RETRY_ATTEMPTS.default_value
    codes: frozenset[int] = RETRY_CODES.default_value
    min_wait: float = RETRY_MIN_WAIT.default_value
    max_wait: float = RETRY_MAX_WAIT.default_value

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> Self:
        """The policy that `annotations` ask for.

        Raises InvalidRequestError naming annotation, value and rule.
        """
        policy = cls(
            attempts=read_label(RETRY_ATTEMPTS, annotations),
            codes=read_label(RETRY_CODES, annotations),
            min_wait=read_label(RETRY_MIN_WAIT, annotations),
            max_wait=read_label(RETRY_MAX_WAIT, annotations),
        )
        written = annotations.get(RETRY_MAX_WAIT.name)
        if written is not None and policy.max_wait < policy.min_wait:
            raise InvalidRequestError(
                f"{RETRY_MAX_WAIT.name}={written!r}: expected no less than "
                f"{RETRY_MIN_WAIT.name}, which is {policy.min_wait:g} s"
            )
        return policy

    def retries(self, status: int, internal: bool) -> bool:
        """Whether a response leads to another attempt; internal: it was not the function's."""
        return internal or status in self.codes

    def wait(self, attempt: int, asked: float | None, jitter: Callable[[], float]) -> float:
        """Seconds until the attempt after number `attempt`.

        jitter: a number from 0 to 1. asked: the time in Retry-After, a lower bound.
        """
        return max(asked or 0.0, delay(attempt, self.min_wait, self.max_wait, jitter))


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
    return read_label(ASYNC_CONCURRENCY, annotations, default)
