"""The HTTP contract of a replica: reserved paths, the concurrency limit, timeouts, call ids.

`Application` is what http1 calls. A `Backend` runs the function; each of its calls is a `Call`,
which takes a slot at the head of the request and gives it back when nothing of it runs any more.
`ServerState` is what the calls of a replica share.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from enum import Enum
from time import monotonic, perf_counter
from typing import Final, Protocol

from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.receiver import NullReceiver
from sluice.runtime.serving.metrics import Metrics
from sluice.runtime.settings import RuntimeSettings
from sluice.settings import parse_duration

# Headers of of-watchdog's own responses: of its concurrency limit, and of the watchdog itself.
LIMITED: Final = b"content-type: text/plain\r\nx-openfaas-internal: faas-middleware\r\n"
WATCHDOG: Final = b"x-openfaas-internal: of-watchdog\r\n"
TEXT: Final = b"content-type: text/plain; charset=utf-8\r\n"
RESERVED: Final = b"/_/"
# Counted as the status of a call whose client closed the connection; never sent.
CLIENT_CLOSED: Final = 499
MAX_CALL_ID: Final = 128
SWEEP_SECONDS: Final = 1.0
# A cancelled handler may clean up for this many seconds before it counts as stuck.
CANCEL_GRACE: Final = 3.0
# Responses that last as long as their client listens: exec_timeout does not apply to them.
ENDLESS_RESPONSES: Final = (b"text/event-stream", b"application/x-ndjson")
NULL_RECEIVER: Final = NullReceiver()

log = logging.getLogger("runtime")


class FunctionError(Exception):
    """The function cannot be served; the message is shown to whoever deployed it."""


class Backend(Protocol):
    """Runs the function: a handler, an ASGI app or a command."""

    def begin(self, server: "ServerState", exchange: Exchange) -> Receiver:
        """Begin a call, which holds a slot until it ends."""

    async def start(self) -> None:
        """Get ready for calls. Raises FunctionError."""

    async def close(self) -> bool:
        """Shut down after the last call; false when a thread of it cannot be stopped."""


class ServerState:
    """What the calls of a replica share: settings, metrics, slots, body deadlines, the drain.

    draining: SIGTERM came. replacement_requested: a call does not end, and its replica has asked
    for another one. Either can come first, so they are two facts and not one state.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        request_replacement: Callable[[str], None],
    ) -> None:
        """request_replacement: takes the reason; called once at most."""
        self.settings = settings
        self.metrics = metrics
        self.loop = loop
        self._request_replacement = request_replacement
        self.exec_timeout = settings.exec_timeout or None
        self.draining = False
        self.replacement_requested = False
        self._body_deadlines: dict[Call, float] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Event | None = None

    def replace(self, reason: str) -> None:
        """Request another replica and drain this one; only the first reason is reported."""
        if not self.replacement_requested:
            self.replacement_requested = True
            log.warning("replica asks to be replaced", extra={"reason": reason})
            self._request_replacement(reason)

    def full(self) -> bool:
        """Whether max_inflight calls hold a slot."""
        limit = self.settings.max_inflight
        return limit > 0 and self.metrics.in_flight >= limit

    def release_slot(self) -> None:
        """Give one slot back."""
        self.metrics.in_flight -= 1
        if self._idle is not None and self.metrics.in_flight == 0:
            self._idle.set()

    async def wait_until_idle(self) -> None:
        """Return when no call holds a slot."""
        if self.metrics.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def expect_body(self, call: "Call") -> None:
        """Answer `call` with 408 unless its body is complete within read_timeout."""
        self._body_deadlines[call] = monotonic() + self.settings.read_timeout
        if self._sweep_timer is None:
            self._sweep_timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def body_complete(self, call: "Call") -> None:
        """Expect no more of the body of `call`; it need not have been expected."""
        self._body_deadlines.pop(call, None)

    def _sweep(self) -> None:
        now = monotonic()
        seconds = self.settings.read_timeout
        for call in [call for call, until in self._body_deadlines.items() if until <= now]:
            call.refuse(408, f"the request body did not arrive within {seconds:g} s")
        self._sweep_timer = None
        if self._body_deadlines:
            self._sweep_timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)


class CallState(Enum):
    """Whether a call has its response, and whether it holds its slot.

    A call ends with its response, also one that was cut. Its slot is free then, unless its run
    outlives it: a thread that cannot be stopped, a command that has not exited yet.
    """

    ACTIVE = ("no response yet; the slot is free with it", False)
    PINNED = ("no response yet; the slot stays taken until the run ends", False)
    LINGERING = ("has its response; the run continues and keeps the slot", True)
    RELEASED = ("has its response; the slot is free", True)

    def __init__(self, meaning: str, ended: bool) -> None:
        self.meaning = meaning
        self.ended = ended

    # An Enum's own hash is a function in Python, called for each look-up in the tables below.
    __hash__ = object.__hash__


# The transitions of a call; where a state is missing, nothing happens.
ON_END: Final = {
    CallState.ACTIVE: CallState.RELEASED,
    CallState.PINNED: CallState.LINGERING,
}
ON_PIN: Final = {CallState.ACTIVE: CallState.PINNED}
ON_RUN_ENDED: Final = {
    CallState.PINNED: CallState.ACTIVE,
    CallState.LINGERING: CallState.RELEASED,
}
ACTIVE: Final = CallState.ACTIVE
RELEASED: Final = CallState.RELEASED


class Call:
    """A request that holds a slot from its head to the end of its response, or of its run."""

    __slots__ = (
        "_timeout_fault",
        "call_id",
        "call_id_given",
        "exchange",
        "server",
        "started",
        "state",
        "timeout",
    )

    def __init__(self, server: ServerState, exchange: Exchange) -> None:
        self.started = perf_counter()
        self.server = server
        self.exchange = exchange
        self.timeout = server.exec_timeout
        self.state = ACTIVE
        self.call_id = ""
        self._timeout_fault = ""
        server.metrics.in_flight += 1
        timeout = b""
        for name, value in exchange.headers:
            if name == b"x-call-id":
                self.call_id = value[:MAX_CALL_ID].decode("latin-1")
            elif name == b"x-timeout":
                timeout = value
            elif name == b"accept" and value.startswith(ENDLESS_RESPONSES):
                self.timeout = None
        if timeout:
            self._shorten_timeout(timeout)
        self.call_id_given = bool(self.call_id)  # by the caller, most often the gateway
        if not self.call_id_given:
            self.call_id = new_call_id()

    @property
    def deadline(self) -> float | None:
        """When the call times out, by time.monotonic(); None if it does not."""
        return None if self.timeout is None else monotonic() + self.timeout

    def admitted(self) -> bool:
        """Whether the head can be served; if not, the caller gets a 400."""
        if self._timeout_fault:
            self.refuse(400, self._timeout_fault)
        return not self.state.ended

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Send the whole response and end the call; does nothing when it has ended.

        lines: rendered header lines.
        """
        if self.state.ended:
            return
        seconds = perf_counter() - self.started
        self.exchange.respond(status, self.with_call_headers(lines, seconds), body)
        self.end(status, seconds)

    def refuse(self, status: int, text: str, lines: bytes = b"") -> None:
        """Respond with one line of text."""
        self.respond(status, lines + TEXT, f"{text}\n".encode())

    def with_call_headers(self, lines: bytes, seconds: float) -> bytes:
        """`lines` and the headers that every response of a call has.

        A call id that the caller gave is not echoed: the gateway gave it and adds it itself.
        """
        if self.call_id_given:
            return b"%bx-duration-seconds: %.6f\r\n" % (lines, seconds)
        call_id = self.call_id.encode("latin-1")
        return b"%bx-call-id: %b\r\nx-duration-seconds: %.6f\r\n" % (lines, call_id, seconds)

    def end(self, status: int, seconds: float | None = None) -> None:
        """Count the call under `status`, and free its slot unless it is pinned; only once."""
        state = ON_END.get(self.state)
        if state is None:
            return
        self.state = state
        server = self.server
        server.body_complete(self)
        if seconds is None:
            seconds = perf_counter() - self.started
        server.metrics.observe(self.exchange.method, status, seconds)
        if state is RELEASED:
            server.release_slot()

    def pin_slot(self) -> None:
        """Keep the slot until `run_ended`, even when the call ends first."""
        self.state = ON_PIN.get(self.state, self.state)

    def run_ended(self) -> None:
        """Free the slot when the call has ended, otherwise at its end."""
        state = ON_RUN_ENDED.get(self.state)
        if state is not None:
            self.state = state
            if state is RELEASED:
                self.server.release_slot()

    def abort(self) -> None:
        """Cut a response that has begun, so that the client knows it is not whole."""
        if not self.state.ended:
            self.exchange.abort()
            self.end(500)

    def count_timeout(self) -> None:
        """Count and log that the call has reached its timeout."""
        self.server.metrics.timeouts += 1
        log.warning(
            "call stopped at exec_timeout",
            extra={"call_id": self.call_id, "seconds": f"{self.timeout:g}"},
        )

    def _shorten_timeout(self, value: bytes) -> None:
        text = value.decode("latin-1")
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            self._timeout_fault = f"X-Timeout: {text[:80]!r}: expected {error}"
            return
        if seconds and (self.timeout is None or seconds < self.timeout):
            self.timeout = seconds


class Application:
    """Serves health, ready and metrics, answers 429 above max_inflight, and begins calls."""

    def __init__(self, server: ServerState, backend: Backend) -> None:
        self._server = server
        self._begin = backend.begin
        self._pages: dict[bytes, Callable[[Exchange], None]] = {
            b"/_/health": self._health,
            b"/_/ready": self._ready,
            b"/_/metrics": self._metrics,
        }
        limit = server.settings.max_inflight
        self._limit_text = (
            f"Concurrent request limit exceeded. Max concurrent requests: {limit}\n".encode()
        )

    def __call__(self, exchange: Exchange) -> Receiver:
        """Begin what the request asks for."""
        if exchange.path.startswith(RESERVED):
            page = self._pages.get(exchange.path)
            if page is not None:
                return self._reserved(exchange, page)
        server = self._server
        if server.full():
            exchange.respond(429, LIMITED, self._limit_text)
            server.metrics.observe(exchange.method, 429, 0.0)
            return NULL_RECEIVER
        return self._begin(server, exchange)

    def _reserved(self, exchange: Exchange, page: Callable[[Exchange], None]) -> Receiver:
        if exchange.method == "GET":
            page(exchange)
        else:
            exchange.respond(405, b"allow: GET\r\n", b"")
        return NULL_RECEIVER

    def _health(self, exchange: Exchange) -> None:
        if self._server.draining:
            exchange.respond(503, TEXT, b"draining\n")
        else:
            exchange.respond(200, TEXT, b"OK")

    def _ready(self, exchange: Exchange) -> None:
        server = self._server
        if server.draining or server.replacement_requested:
            exchange.respond(503, TEXT, b"draining\n")
        elif server.full():
            exchange.respond(429, LIMITED, self._limit_text)
        else:
            exchange.respond(200, b"", b"")

    def _metrics(self, exchange: Exchange) -> None:
        from sluice.runtime.serving import exposition  # noqa: PLC0415 - its library is not loaded by a cold start

        content_type = exposition.CONTENT_TYPE.encode()
        page = exposition.page(self._server.metrics)
        exchange.respond(200, b"content-type: %b\r\n" % content_type, page)


def new_call_id() -> str:
    """A random id in the shape of a UUID of version 4."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
