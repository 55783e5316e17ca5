"""Calls of a handle() function: collect the body, run the handler, send its response."""

import asyncio
import logging
from typing import Any, Final

from sluice.http1.exchange import Exchange, Receiver
from sluice.runtime.python.dynamic_batching import DynamicBatchRunner
from sluice.runtime.python.event import Context, Event, Headers, Identity, ResponseError
from sluice.runtime.python.function import Form, Function
from sluice.runtime.python.response import InvalidResponseError, Response, StreamingResponse
from sluice.runtime.python.runners import (
    EagerTaskFactory,
    HandlerRunner,
    LoopRunner,
    Run,
    ThreadRunner,
)
from sluice.runtime.python.stream import discard, send_stream
from sluice.runtime.python.threads import ThreadPool
from sluice.runtime.serving.application import (
    CANCEL_GRACE,
    CLIENT_CLOSED,
    WATCHDOG,
    Call,
    ServerState,
)

log: Final = logging.getLogger("runtime")


class HandlerBackend:
    """Begins calls of a function with handle(event, context) or handle(req)."""

    def __init__(self, function: Function, server: ServerState, identity: Identity) -> None:
        self.pool = ThreadPool(server.settings.pool_size, server.loop)
        self.form = function.form
        self.identity = identity
        self.task_factory = EagerTaskFactory(server.loop)
        self.runner = self._runner_for(function, server.loop)

    def begin(self, server: ServerState, exchange: Exchange) -> Receiver:
        return HandlerCall(self, server, exchange)

    async def start(self) -> None:
        pass  # the handler was loaded before the loop ran

    async def close(self) -> bool:
        self.task_factory.close()
        return self.pool.busy == 0

    def _runner_for(self, function: Function, loop: asyncio.AbstractEventLoop) -> HandlerRunner:
        if function.many is not None:
            return DynamicBatchRunner(function, self.task_factory, loop)
        if function.is_async:
            return LoopRunner(function, self.task_factory)
        return ThreadRunner(function, self.pool, self.task_factory)


class HandlerCall(Call):
    """One call of a handler: receives the exchange's body and the outcome of the run."""

    __slots__ = ("_backend", "_began", "_chunks", "_run", "_size", "_timer", "_writable")

    def __init__(self, backend: HandlerBackend, server: ServerState, exchange: Exchange) -> None:
        super().__init__(server, exchange)
        self._backend = backend
        self._chunks: list[bytes] = []
        self._size = 0
        self._began = 0.0
        self._run: Run | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        if self.admitted():
            self._admit_body()

    # The exchange's receiver.

    def body_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self.server.settings.body_limit:
            self._refuse_body()
        elif not self.state.ended:
            self._chunks.append(data)

    def body_complete(self) -> None:
        if self.state.ended:
            return
        self.server.body_complete(self)
        arguments = self._arguments()
        if arguments is None:
            return
        self._began = self.server.loop.time()
        run = self._backend.runner.start(arguments, self)
        if run is not None:
            self._run = run

    def client_gone(self) -> None:
        if self.state.ended:
            return
        self.server.metrics.clients_gone += 1
        self._cancel_run()
        self.end(CLIENT_CLOSED)

    def writing_paused(self) -> None:
        pass  # the stream asks the exchange before each item

    def writing_resumed(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # The run's listener.

    def still_running(self) -> None:
        # Not for calls that end in the turn of the loop in which they begin: 1.2 us each.
        if self.timeout is not None and self._timer is None and not self.state.ended:
            self._timer = self.server.loop.call_later(self.timeout, self._timed_out)

    def succeeded(self, response: Response | StreamingResponse) -> None:
        if self.state.ended:
            self._discard(response)
        elif isinstance(response, StreamingResponse):
            self._run = send_stream(response, self, self._backend.pool, self._backend.task_factory)
            if self._run is not None:
                self.still_running()
        else:
            self._stop_timer()
            self.respond(response.status, response.lines, response.body)

    def failed(self, error: BaseException) -> None:
        self._stop_timer()
        if not isinstance(error, ResponseError):
            self._log_failure(error)
        if self.state.ended:
            self.run_ended()
        elif self.exchange.response_started:
            self.abort()
        elif isinstance(error, ResponseError):
            self.refuse(error.status, str(error))
        else:
            self.refuse(500, f"call {self.call_id} failed")

    # The sink of a stream.

    def begin_stream(self, status: int, lines: bytes) -> None:
        if not self.state.ended:
            seconds = self.server.loop.time() - self._began
            self.exchange.start_response(status, self.with_call_headers(lines, seconds), None)

    def write(self, data: bytes) -> None:
        self.exchange.write(data)

    async def writable(self) -> None:
        while self.exchange.writing_paused and not self.state.ended:
            self._writable = self.server.loop.create_future()
            await self._writable

    def end_stream(self, last: bytes = b"") -> None:
        self._stop_timer()
        self.exchange.end(last)
        self.end(self.exchange.status)
        self.run_ended()

    @property
    def bodyless(self) -> bool:
        return self.exchange.method == "HEAD"

    def _admit_body(self) -> None:
        exchange = self.exchange
        length = exchange.content_length
        if length is not None and length > self.server.settings.body_limit:
            self._refuse_body()
            return
        if exchange.expects_continue:
            exchange.send_continue()
        if length or exchange.chunked:
            self.server.expect_body(self)

    def _refuse_body(self) -> None:
        self._chunks.clear()
        limit = self.server.settings.body_limit
        self.refuse(413, f"the request body is larger than {limit} bytes (SLUICE_BODY_LIMIT)")

    def _arguments(self) -> tuple[Any, ...] | None:
        """What the handler is called with; None when the call was refused."""
        chunks, exchange = self._chunks, self.exchange
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        backend = self._backend
        if backend.form is Form.REQUEST:
            return self._request_argument(body)
        event = Event(exchange.method, exchange.path, exchange.query, Headers(exchange.headers))
        event.body = body
        return event, Context(backend.identity, self.call_id, self.deadline)

    def _request_argument(self, body: bytes) -> tuple[str | bytes] | None:
        if self.server.settings.raw_body:
            return (body,)
        try:
            return (body.decode("utf-8"),)
        except UnicodeDecodeError as error:
            self.refuse(
                400,
                f"the request body is not UTF-8 at byte {error.start}: "
                "handle(req) takes text unless RAW_BODY is true",
            )
            return None

    def _timed_out(self) -> None:
        self._timer = None
        self.count_timeout()
        self._cancel_run()
        if self.exchange.response_started:
            self.abort()
        else:
            self.respond(504, WATCHDOG, b"")

    def _cancel_run(self) -> None:
        """Stop the run if it can be stopped; otherwise keep the slot, and watch the run."""
        self._stop_timer()
        run = self._run
        if run is None:
            return
        stoppable = run.cancel()
        if run.ended():
            return
        self.pin_slot()
        loop, exec_timeout = self.server.loop, self.server.exec_timeout
        if exec_timeout is not None:
            # exec_timeout decides when the replica is replaced, and not a caller's shorter
            # X-Timeout or a client that closes early.
            grace = CANCEL_GRACE if stoppable else 0.0
            until = max(self._began + exec_timeout, loop.time() + grace)
            self._timer = loop.call_at(until, self._stuck)

    def _stuck(self) -> None:
        self._timer = None
        if self._run is not None and not self._run.ended():
            self.server.replace(
                f"exec_timeout of {self.server.exec_timeout:g} s passed, "
                f"and the handler of call {self.call_id} does not end"
            )
        self.run_ended()

    def _discard(self, response: Response | StreamingResponse) -> None:
        """Drop a result that came after the call ended, and free the slot."""
        self._stop_timer()
        if isinstance(response, StreamingResponse):
            discard(response)
        self.run_ended()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _log_failure(self, error: BaseException) -> None:
        extra = {"call_id": self.call_id}
        if isinstance(error, InvalidResponseError):
            log.error("invalid response", extra=extra | {"reason": str(error)})
        elif not (self.state.ended and isinstance(error, asyncio.CancelledError)):
            log.error("handler raised", exc_info=error, extra=extra)
