"""One call that holds a slot, and what all calls of a replica share."""

import asyncio
import logging
import os
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Final

from sluice.http1.exchange import Exchange
from sluice.runtime.python.event import Identity
from sluice.runtime.serving.metrics import Metrics
from sluice.runtime.settings import RuntimeSettings
from sluice.settings import parse_duration

INTERNAL: Final = b"x-openfaas-internal: of-watchdog\r\n"
TEXT: Final = b"content-type: text/plain; charset=utf-8\r\n"
CLIENT_GONE: Final = 499  # counted only, nobody is left to receive it
LONGEST_CALL_ID: Final = 128
SWEEP_SECONDS: Final = 1.0
ENDLESS_RESPONSES: Final = (b"text/event-stream", b"application/x-ndjson")

log = logging.getLogger("runtime")


class ServingState:
    """Settings, identity and figures of a replica, and which of its slots are in use."""

    def __init__(
        self,
        settings: RuntimeSettings,
        identity: Identity,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        ask_replacement: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.identity = identity
        self.metrics = metrics
        self.loop = loop
        self._ask_replacement = ask_replacement
        self.exec_timeout = settings.exec_timeout or None
        self.draining = False
        self.replacing = False
        self._receiving: dict[Call, float] = {}
        self._sweeping = False
        self._idle: asyncio.Event | None = None

    def replace(self, reason: str) -> None:
        """Ask for another replica, and drain this one; the first reason counts."""
        if not self.replacing:
            self.replacing = True
            log.warning("replica asks to be replaced", extra={"reason": reason})
            self._ask_replacement(reason)

    def full(self) -> bool:
        """Whether max_inflight calls are running."""
        limit = self.settings.max_inflight
        return limit > 0 and self.metrics.in_flight >= limit

    def slot_freed(self) -> None:
        self.metrics.in_flight -= 1
        if self._idle is not None and self.metrics.in_flight == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when no call holds a slot."""
        if self.metrics.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def await_body(self, call: "Call") -> None:
        """Break `call` off unless its body is complete within read_timeout."""
        self._receiving[call] = monotonic() + self.settings.read_timeout
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def body_complete(self, call: "Call") -> None:
        self._receiving.pop(call, None)

    def _sweep(self) -> None:
        now = monotonic()
        for call in [call for call, until in self._receiving.items() if until <= now]:
            seconds = self.settings.read_timeout
            call.refuse(408, f"the request body did not arrive within {seconds:g} s")
        self._sweeping = bool(self._receiving)
        if self._sweeping:
            self.loop.call_later(SWEEP_SECONDS, self._sweep)


class Call:
    """A request that holds a slot from its head to the end of its answer."""

    __slots__ = (
        "_fault",
        "_released",
        "call_id",
        "ended",
        "exchange",
        "limit",
        "lingering",
        "named",
        "serving",
        "started",
    )

    def __init__(self, serving: ServingState, exchange: Exchange) -> None:
        self.started = perf_counter()
        self.serving = serving
        self.exchange = exchange
        self.limit = serving.exec_timeout
        self.ended = False
        self.lingering = False  # its handler still runs, and so its slot is not free
        self._released = False
        self.call_id = ""
        self._fault = ""
        serving.metrics.in_flight += 1
        timeout = b""
        for name, value in exchange.headers:
            if name == b"x-call-id":
                self.call_id = value[:LONGEST_CALL_ID].decode("latin-1")
            elif name == b"x-timeout":
                timeout = value
            elif name == b"accept" and value.startswith(ENDLESS_RESPONSES):
                self.limit = None
        if timeout:
            self._shorten(timeout)
        self.named = bool(self.call_id)  # by the caller, most often the gateway
        if not self.named:
            self.call_id = new_call_id()

    @property
    def deadline(self) -> float | None:
        """time.monotonic() at which the call is broken off."""
        return None if self.limit is None else monotonic() + self.limit

    def admitted(self) -> bool:
        """Whether the head is fit to be served; answers the caller when it is not."""
        if self._fault:
            self.refuse(400, self._fault)
        return not self.ended

    def response(self, status: int, lines: bytes, body: bytes) -> None:
        """The whole answer; nothing happens when the call has ended."""
        if self.ended:
            return
        seconds = perf_counter() - self.started
        self.exchange.respond(status, self.dressed(lines, seconds), body)
        self.end(status, seconds)

    def refuse(self, status: int, text: str, lines: bytes = b"") -> None:
        """An answer of the runtime's own: a line of text."""
        self.response(status, lines + TEXT, f"{text}\n".encode())

    def dressed(self, lines: bytes, seconds: float) -> bytes:
        """`lines` with the headers every answer has.

        A call id the caller gave is not echoed: the gateway gave it and answers it itself.
        """
        if self.named:
            return b"%bx-duration-seconds: %.6f\r\n" % (lines, seconds)
        call_id = self.call_id.encode("latin-1")
        return b"%bx-call-id: %b\r\nx-duration-seconds: %.6f\r\n" % (lines, call_id, seconds)

    def end(self, status: int, seconds: float | None = None) -> None:
        """Count the call, and give its slot back unless its handler lingers; once."""
        if self.ended:
            return
        self.ended = True
        serving = self.serving
        serving.body_complete(self)
        if seconds is None:
            seconds = perf_counter() - self.started
        serving.metrics.observe(self.exchange.method, status, seconds)
        if not self.lingering:
            self.release()

    def release(self) -> None:
        """Give the slot back, once."""
        if not self._released:
            self._released = True
            self.serving.slot_freed()

    def break_off(self) -> None:
        """Cut an answer that has begun, so that nobody takes it for whole."""
        if not self.ended:
            self.exchange.abort()
            self.end(500)

    def _shorten(self, value: bytes) -> None:
        text = value.decode("latin-1")
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            self._fault = f"X-Timeout: {text[:80]!r}: expected {error}"
            return
        if seconds and (self.limit is None or seconds < self.limit):
            self.limit = seconds


def new_call_id() -> str:
    """A random id in the shape of a UUID of version 4."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
