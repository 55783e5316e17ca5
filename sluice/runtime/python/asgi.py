"""Calls of an ASGI app: http1's bridge with a slot, exec_timeout and metrics; bodies stream."""

import asyncio
import logging
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final

from sluice.http1.asgi import AsgiApp, AsgiApplication, Message, Receive, Scope, Send
from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.lifespan import Lifespan, LifespanError
from sluice.runtime.python.function import HANDLER
from sluice.runtime.serving.application import (
    CANCEL_GRACE,
    CLIENT_CLOSED,
    NULL_RECEIVER,
    WATCHDOG,
    Call,
    FunctionError,
    ServerState,
)

# The call whose task is being made, which inherits it.
_CALL: ContextVar["AsgiCall"] = ContextVar("call")
NO_STATUS: Final = 0

log = logging.getLogger("runtime")


class AsgiBackend:
    """Begins calls of an ASGI app."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._lifespan = Lifespan(app)
        # The start-up fills this dict before the first call.
        self._application = AsgiApplication(self._run, self._lifespan.state)

    def begin(self, server: ServerState, exchange: Exchange) -> Receiver:
        call = AsgiCall(server, exchange)
        if not call.admitted():
            return NULL_RECEIVER
        token = _CALL.set(call)
        try:
            receiver = self._application(exchange)
        finally:
            _CALL.reset(token)
        if exchange.done:
            call.end(exchange.status)  # the bridge refused it, as it does websockets
        return receiver

    async def start(self) -> None:
        """Run the app's start-up. Raises FunctionError with its message."""
        try:
            await self._lifespan.startup()
        except LifespanError as error:
            raise FunctionError(f"{HANDLER}: the app's start-up failed: {error}") from error

    async def close(self) -> bool:
        await self._application.close()
        try:
            await self._lifespan.shutdown()
        except LifespanError as error:
            log.warning("the app's shutdown failed", extra={"reason": str(error)})
        return True

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _CALL.get().run(self._app, scope, receive, send)


class AsgiCall(Call):
    """One call of an ASGI app."""

    __slots__ = ("_task", "_timer")

    def __init__(self, server: ServerState, exchange: Exchange) -> None:
        super().__init__(server, exchange)
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app to its end or to the call's timeout; raises CancelledError only."""
        self._task = asyncio.current_task()
        if self.timeout is not None:
            self._timer = self.server.loop.call_later(self.timeout, self._timed_out)

        async def send_with_headers(message: Message) -> None:
            await send(self._with_headers(message))

        try:
            await app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if not self.state.ended:
                raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an app raises fails its call
            self._fail(error)
        finally:
            self._finish()

    def _with_headers(self, message: Message) -> Message:
        if message["type"] != "http.response.start":
            return message
        seconds = f"{perf_counter() - self.started:.6f}".encode()
        added = [(b"x-duration-seconds", seconds)]
        if not self.call_id_given:
            added.append((b"x-call-id", self.call_id.encode("latin-1")))
        return {**message, "headers": [*message.get("headers", ()), *added]}

    def _fail(self, error: BaseException) -> None:
        log.error("handler raised", exc_info=error, extra={"call_id": self.call_id})
        if self.exchange.response_started:
            self.abort()
        else:
            self.refuse(500, f"call {self.call_id} failed")

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        exchange = self.exchange
        if not self.state.ended:
            if exchange.status == NO_STATUS and exchange.done:
                self.server.metrics.clients_gone += 1
            elif not exchange.done:
                self._fail(RuntimeError("the app returned before its response was complete"))
            self.end(exchange.status or CLIENT_CLOSED)
        self.run_ended()

    def _timed_out(self) -> None:
        self._timer = None
        self.count_timeout()
        self.pin_slot()
        if self._task is not None:
            self._task.cancel()
        if self.exchange.response_started:
            self.abort()
        else:
            self.respond(504, WATCHDOG, b"")
        if self.server.exec_timeout is not None:
            # exec_timeout decides when the replica is replaced, and not a caller's shorter
            # X-Timeout.
            left = self.server.exec_timeout - (perf_counter() - self.started)
            self._timer = self.server.loop.call_later(max(CANCEL_GRACE, left), self._stuck)

    def _stuck(self) -> None:
        self.server.replace(
            f"exec_timeout of {self.server.exec_timeout:g} s passed, "
            f"and the app does not end call {self.call_id}"
        )
        self.run_ended()
