"""Calls of an ASGI app: slot, exec_timeout and figures around http1's bridge, bodies streamed."""

import asyncio
import logging
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final

from sluice.http1.asgi import AsgiApp, AsgiApplication, Message, Receive, Scope, Send
from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.lifespan import Lifespan, LifespanError
from sluice.runtime.python.function import HANDLER, FunctionError
from sluice.runtime.python.handler_call import CANCEL_GRACE
from sluice.runtime.serving.application import NULL_RECEIVER
from sluice.runtime.serving.call import CLIENT_GONE, INTERNAL, Call, ServingState

log = logging.getLogger("runtime")

# Set when a call begins; its task is made right then and inherits it.
_CALL: ContextVar["AsgiCall"] = ContextVar("call")
ENDED_WITHOUT_STATUS: Final = 0


class AsgiBackend:
    """Begins calls of an ASGI app."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._lifespan = Lifespan(app)
        # The same dict all along: start-up fills it before the first call.
        self._application = AsgiApplication(self._run, self._lifespan.state)

    def begin(self, serving: ServingState, exchange: Exchange) -> Receiver:
        call = AsgiCall(serving, exchange)
        if not call.admitted():
            return NULL_RECEIVER
        token = _CALL.set(call)
        try:
            receiver = self._application(exchange)
        finally:
            _CALL.reset(token)
        if exchange.done:
            call.end(exchange.status)  # refused by the bridge, as a websocket is
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

    def __init__(self, serving: ServingState, exchange: Exchange) -> None:
        super().__init__(serving, exchange)
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app to its end or to the call's timeout; raises CancelledError only."""
        self._task = asyncio.current_task()
        if self.limit is not None:
            self._timer = self.serving.loop.call_later(self.limit, self._expired)

        async def dressed_send(message: Message) -> None:
            await send(self._with_headers(message))

        try:
            await app(scope, receive, dressed_send)
        except asyncio.CancelledError:
            if not self.ended:
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
        if not self.named:
            added.append((b"x-call-id", self.call_id.encode("latin-1")))
        return {**message, "headers": [*message.get("headers", ()), *added]}

    def _fail(self, error: BaseException) -> None:
        log.error("handler raised", exc_info=error, extra={"call_id": self.call_id})
        if self.exchange.response_started:
            self.break_off()
        else:
            self.refuse(500, f"call {self.call_id} failed")

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        exchange = self.exchange
        if not self.ended:
            if exchange.status == ENDED_WITHOUT_STATUS and exchange.done:
                self.serving.metrics.clients_gone += 1
            elif not exchange.done:
                self._fail(RuntimeError("the app returned before its answer was complete"))
            self.end(exchange.status or CLIENT_GONE)
        self.release()

    def _expired(self) -> None:
        self._timer = None
        self.serving.metrics.timeouts += 1
        log.warning(
            "call broken off at exec_timeout",
            extra={"call_id": self.call_id, "seconds": f"{self.limit:g}"},
        )
        self.lingering = True
        if self._task is not None:
            self._task.cancel()
        if self.exchange.response_started:
            self.break_off()
        else:
            self.response(504, INTERNAL, b"")
        if self.serving.exec_timeout is not None:
            # A caller's X-Timeout must not cost the replica: exec_timeout decides.
            left = self.serving.exec_timeout - (perf_counter() - self.started)
            self._timer = self.serving.loop.call_later(max(CANCEL_GRACE, left), self._stuck)

    def _stuck(self) -> None:
        self.serving.replace(
            f"exec_timeout of {self.serving.exec_timeout:g} s passed, "
            f"and the app does not end call {self.call_id}"
        )
        self.release()
