"""How long a connection waits, and for what.

Traps handled here:
- nothing sets a timer: a sweep compares what the connection waits for now and a while ago, so that
  a request costs nothing for its timeouts;
- a head that trickles in gains no time by it, a body or a response that moves does;
- while reading is paused no loop reports a client that left: the sweep asks the kernel.
"""

import asyncio
import select
from enum import Enum

from sluice.http1.limits import Limits


class Awaited(Enum):
    """What a connection waits for; only the application may take as long as it likes."""

    REQUEST = "the first byte of a request"
    HEAD = "the rest of a head"
    BODY = "more of a body"
    APPLICATION = "the application"
    CLIENT = "the client to read its responses"
    REST = "the rest of a refused request, which is discarded"


class Deadline:
    """The deadline of one connection, seen a few times a second."""

    __slots__ = ("_awaited", "_progress", "_since", "_timeouts")

    def __init__(self, limits: Limits) -> None:
        self._timeouts = limits
        self._awaited: Awaited | None = None
        self._progress = 0
        self._since = 0.0

    def passed(self, awaited: Awaited, progress: int, now: float) -> bool:
        """Whether the same was awaited for too long without progress.

        progress: a number that changes when what is awaited comes nearer. now: monotonic seconds.
        """
        if awaited is not self._awaited or progress != self._progress:
            self._awaited, self._progress, self._since = awaited, progress, now
            return False
        return now - self._since >= self.timeout(awaited)

    def timeout(self, awaited: Awaited) -> float:
        """Seconds until the wait is too long."""
        limits = self._timeouts
        match awaited:
            case Awaited.HEAD:
                return limits.header_timeout
            case Awaited.REQUEST:
                return limits.idle_timeout
            case Awaited.REST:
                return limits.linger_timeout
            case Awaited.APPLICATION:
                return float("inf")
            case Awaited.BODY | Awaited.CLIENT:
                return limits.stall_timeout


def client_has_left(transport: asyncio.Transport) -> bool:
    """Whether the client closed its side behind what is not read yet."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLRDHUP)
    return bool(poller.poll(0))
