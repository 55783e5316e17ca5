"""What a connection waits for, and for how long at most.

Traps handled here:
- nothing sets a timer: a sweep compares what the connection waits for now and a while ago, so that
  a request costs nothing for its timeouts;
- a head that trickles in wins no time by it, a body or an answer that moves does;
- what we do not take (a paused body, a head behind a call in flight, a body that was not asked for)
  is no fault of the client;
- while reading is paused no loop reports a client that left: the sweep asks the kernel.
"""

import select
from abc import abstractmethod

from sluice.http1.errors import RefusedError
from sluice.http1.exchange import Application
from sluice.http1.head_cache import Heads, RecallingConnection
from sluice.http1.limits import Limits


class TimedConnection(RecallingConnection):
    """The part of a connection that the sweep sees."""

    __slots__ = ("_lingering", "_mark", "_since")

    def __init__(self, application: Application, limits: Limits, head_cache: Heads | None) -> None:
        super().__init__(application, limits, head_cache)
        self._lingering = False
        self._mark: tuple[str, int] = ("", 0)
        self._since = 0.0

    @abstractmethod
    def _close(self, *, unread: bool) -> None:
        """Close once all is sent; unread: the client may still be sending."""

    def sweep(self, now: float) -> None:
        """End what waits too long; now: monotonic seconds, about four times a second."""
        if self._reading_paused and self._has_left():
            self._transport.abort()
            return
        mark = phase, _ = self._awaits()
        if mark != self._mark:
            self._mark, self._since = mark, now
        elif now - self._since >= self._patience(phase):
            self._expire(phase)

    def _awaits(self) -> tuple[str, int]:
        """What is waited for, and a number that changes when it comes nearer."""
        current = self._current
        if self._lingering:
            return "rest", 0
        if self._closing or self.writing_is_paused:
            return "taken", self._transport.get_write_buffer_size()
        if current is None:
            return ("head" if self._in_head else "request"), self._count
        asked = current.continue_sent or not current.expects_continue
        if current.request_open and asked and not self._body_paused:
            return "body", current.body_left
        return "answer", 0

    def _patience(self, phase: str) -> float:
        limits = self._limits
        match phase:
            case "head":
                return limits.header_timeout
            case "request":
                return limits.idle_timeout
            case "rest":
                return limits.linger_timeout
            case "answer":
                return float("inf")
            case _:
                return limits.stall_timeout

    def _expire(self, phase: str) -> None:
        if phase == "request":
            self._close(unread=False)
        elif phase == "head":
            self._refuse(RefusedError(408, f"head not complete in {self._patience(phase):g} s"))
        elif phase == "body":
            self._refuse(RefusedError(408, f"no body for {self._patience(phase):g} s"))
        else:
            self._transport.abort()

    def _has_left(self) -> bool:
        """Whether the client closed its side behind what is not read yet."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return False
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLRDHUP)
        return bool(poller.poll(0))
