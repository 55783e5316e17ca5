"""A queued call, its attempts and its callback. No I/O."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

IDS_AT_ONCE: Final = 64


class CallState(IntEnum):
    """The state of a call; from SUCCEEDED on it is finished."""

    QUEUED = 0
    RUNNING = 1
    SUCCEEDED = 2
    DEAD = 3
    CANCELLED = 4

    @property
    def finished(self) -> bool:
        """Whether it changes only by a replay."""
        return self >= CallState.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Payload:
    """A stored message: a head, and a body in the row or in a file.

    head: a request's complete head, ready to be sent except for its last line end; of a response
    the header lines. blob: name of the body's file, empty if `body` holds it. size: bytes of the
    body.
    """

    head: bytes
    body: bytes = b""
    blob: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be accepted. accepted: seconds since the epoch.

    callback: URL for the response, or empty; host: its host and port; name: the function as the
    caller named it. key, digest: the caller's Idempotency-Key and the SHA-256 of its request;
    empty if there is none.
    """

    id: str
    function: str
    accepted: float
    request: Payload
    callback: str = ""
    host: str = ""
    name: str = ""
    key: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A leased call. attempt: 1 for the first. host: of its callback."""

    id: str
    function: str
    accepted: float
    attempt: int
    request: Payload
    host: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt.

    state: QUEUED for another attempt at `due`, else a finished one. response: None when no replica
    responded. seconds: how long the attempt took.
    """

    call: QueuedCall
    state: CallState
    due: float
    status: int
    reason: str
    finished: float
    seconds: float
    response: Payload | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A leased callback: the response of a finished call for a URL. attempt: 1 for the first.

    name: the function as the caller named it. response: None when no replica responded.
    """

    id: str
    host: str
    url: str
    name: str
    finished: float
    attempt: int
    status: int
    seconds: float
    request_head: bytes
    response: Payload | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of a callback's attempt. state: `delivered`, `failed`, or `owed` until `due`."""

    delivery: Delivery
    state: str
    due: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CallView:
    """A call as the API shows it. Times are seconds since the epoch, None before they are known."""

    id: str
    function: str
    state: CallState
    accepted: float
    due: float
    attempts: int
    callback: str
    callback_state: str
    status: int | None
    reason: str
    finished: float | None
    seconds: float | None
    size: int


def new_ids() -> Callable[[], str]:
    """A source of UUIDs of version 7 (RFC 9562): each sorts after those it made before.

    The primary key then orders calls by their age, and a group of them is written to neighbouring
    pages. The 12 bits after the milliseconds are a counter; 62 bits are random.
    """
    last, tails = 0, list[str]()

    def make() -> str:
        nonlocal last
        if not tails:
            digits = os.urandom(8 * IDS_AT_ONCE).hex()
            tails.extend(_tail(digits[at : at + 16]) for at in range(0, len(digits), 16))
        last = max(time.time_ns() // 1_000_000 << 12, last + 1)
        return f"{last >> 28:08x}-{last >> 12 & 0xFFFF:04x}-7{last & 0xFFF:03x}-{tails.pop()}"

    return make


def _tail(digits: str) -> str:
    """The last two groups: two fixed bits, then 62 of the digits."""
    return f"{'89ab'[int(digits[0], 16) & 3]}{digits[1:4]}-{digits[4:]}"
