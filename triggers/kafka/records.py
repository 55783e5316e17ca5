"""A record, and the possible outcomes of its call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Record(Protocol):
    """The part of kafka-python's ConsumerRecord that is read."""

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


@dataclass(frozen=True, slots=True)
class Done:
    """It had its effect. result, content_type: of the response, for the result topic."""

    result: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The function took it and failed: a try is used up. status: HTTP, 0 without a response.

    permanent: another try is of no use. together: it was called with others and the failure
    cannot be assigned; it is called again alone, and no try is used up.
    """

    reason: str
    status: int = 0
    permanent: bool = False
    together: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No function took it: it is retried without limit."""

    reason: str


Outcome = Done | Failed | Unavailable
