"""Calls of a handle() function: body gathered, handler run, answer or stream sent."""

import asyncio
import logging
from typing import Any, Final

from sluice.http1.exchange import Exchange, Receiver
from sluice.runtime.python.dynamic_batching import DynamicBatchRunner
from sluice.runtime.python.eager_tasks import EagerTaskFactory
from sluice.runtime.python.event import Context, Event, Headers, ResponseError
from sluice.runtime.python.function import Form, Function
from sluice.runtime.python.response import Reply, Stream, WrongReplyError
from sluice.runtime.python.runners import HandlerRunner, LoopRunner, Running, ThreadRunner
from sluice.runtime.python.stream import discard, send_stream
from sluice.runtime.python.threads import ThreadPool
from sluice.runtime.serving.call import CLIENT_GONE, INTERNAL, Call, ServingState

# A cancelled handler may clean up for so long, in seconds, before it counts as stuck.
CANCEL_GRACE: Final = 3.0

log = logging.getLogger("runtime")


class HandlerBackend:
    """Begins calls of a function with handle(event, context) or handle(req)."""

    def __init__(
        self, function: Function, serving: ServingState, runner: HandlerRunner | None = None
    ) -> None:
        """runner: what runs the handler; by default the loop for async ones, else threads."""
        self.pool = ThreadPool(serving.settings.pool_size, serving.loop)
        self.form = function.form
        self.task_factory = EagerTaskFactory(serving.loop)
        self.runner: HandlerRunner = runner or self._runner_for(function, serving.loop)

    def begin(self, serving: ServingState, exchange: Exchange) -> Receiver:
        return HandlerCall(self, serving, exchange)

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
    """One call of a handler; the exchange's receiver and the run's report."""

    __slots__ = ("_backend", "_began", "_chunks", "_resumed", "_running", "_size", "_timer")

    def __init__(self, backend: HandlerBackend, serving: ServingState, exchange: Exchange) -> None:
        super().__init__(serving, exchange)
        self._backend = backend
        self._chunks: list[bytes] = []
        self._size = 0
        self._began = 0.0
        self._running: Running | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._resumed: asyncio.Future[None] | None = None
        if self.admitted():
            self._admit_body()

    def body_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self.serving.settings.body_limit:
            self._refuse_body()
        elif not self.ended:
            self._chunks.append(data)

    def body_complete(self) -> None:
        if self.ended:
            return
        self.serving.body_complete(self)
        arguments = self._arguments()
        if arguments is None:
            return
        self._began = self.serving.loop.time()
        running = self._backend.runner.start(arguments, self)
        if running is not None:
            self._running = running

    def goes_on(self) -> None:
        # Not for calls that end in the turn of the loop in which they begin: 1.2 us each.
        if self.limit is not None and not self.ended and self._timer is None:
            self._timer = self.serving.loop.call_later(self.limit, self._expired)

    def client_gone(self) -> None:
        if self.ended:
            return
        self.serving.metrics.clients_gone += 1
        self._abandon()
        self.end(CLIENT_GONE)

    def writing_paused(self) -> None:
        pass  # the stream asks the exchange before each item

    def writing_resumed(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def succeeded(self, reply: Reply | Stream) -> None:
        if self.ended:
            self._late(reply)
        elif isinstance(reply, Stream):
            self._running = send_stream(reply, self, self._backend.pool, self._backend.task_factory)
            if self._running is not None:
                self.goes_on()
        else:
            self._stop_timer()
            self.response(reply.status, reply.lines, reply.body)

    def failed(self, error: BaseException) -> None:
        self._stop_timer()
        if not isinstance(error, ResponseError):
            self._log_failure(error)
        if self.ended:
            self.release()
        elif self.exchange.response_started:
            self.break_off()
        elif isinstance(error, ResponseError):
            self.refuse(error.status, str(error))
        else:
            self.refuse(500, f"call {self.call_id} failed")

    def begin_stream(self, status: int, lines: bytes) -> None:
        if not self.ended:
            seconds = self.serving.loop.time() - self._began
            self.exchange.start_response(status, self.dressed(lines, seconds), None)

    def write(self, data: bytes) -> None:
        self.exchange.write(data)

    async def writable(self) -> None:
        while self.exchange.writing_paused and not self.ended:
            self._resumed = self.serving.loop.create_future()
            await self._resumed

    def end_stream(self, last: bytes = b"") -> None:
        self._stop_timer()
        self.exchange.end(last)
        self.end(self.exchange.status)
        self.release()

    @property
    def bodyless(self) -> bool:
        return self.exchange.method == "HEAD"

    def _admit_body(self) -> None:
        exchange = self.exchange
        length = exchange.content_length
        if length is not None and length > self.serving.settings.body_limit:
            self._refuse_body()
            return
        if exchange.expects_continue:
            exchange.send_continue()
        if length or exchange.chunked:
            self.serving.await_body(self)

    def _refuse_body(self) -> None:
        self._chunks.clear()
        limit = self.serving.settings.body_limit
        self.refuse(413, f"the request body is larger than {limit} bytes (SLUICE_BODY_LIMIT)")

    def _arguments(self) -> tuple[Any, ...] | None:
        """What the handler is called with; None when the call was refused."""
        chunks, exchange = self._chunks, self.exchange
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self._backend.form is Form.REQUEST:
            return self._request(body)
        event = Event(exchange.method, exchange.path, exchange.query, Headers(exchange.headers))
        event.body = body
        return event, Context(self.serving.identity, self.call_id, self.deadline)

    def _request(self, body: bytes) -> tuple[str | bytes] | None:
        if self.serving.settings.raw_body:
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

    def _expired(self) -> None:
        self._timer = None
        self.serving.metrics.timeouts += 1
        log.warning(
            "call broken off at exec_timeout",
            extra={"call_id": self.call_id, "seconds": f"{self.limit:g}"},
        )
        self._abandon()
        if self.exchange.response_started:
            self.break_off()
        else:
            self.response(504, INTERNAL, b"")

    def _abandon(self) -> None:
        """Stop the run if it can be stopped; else watch it, for its slot is not free."""
        self._stop_timer()
        running = self._running
        if running is None:
            return
        stoppable = running.cancel()
        self.lingering = not running.ended()
        if not self.lingering:
            return
        loop, exec_timeout = self.serving.loop, self.serving.exec_timeout
        if exec_timeout is not None:
            # A caller's X-Timeout or early leave must not cost the replica: exec_timeout decides.
            grace = CANCEL_GRACE if stoppable else 0.0
            until = max(self._began + exec_timeout, loop.time() + grace)
            self._timer = loop.call_at(until, self._stuck)

    def _stuck(self) -> None:
        self._timer = None
        if self._running is not None and not self._running.ended():
            self.serving.replace(
                f"exec_timeout of {self.serving.exec_timeout:g} s passed, "
                f"and the handler of call {self.call_id} does not end"
            )
        self.release()

    def _late(self, reply: Reply | Stream) -> None:
        """A result after the call was answered: drop it, and the slot is free."""
        self._stop_timer()
        if isinstance(reply, Stream):
            discard(reply)
        self.release()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _log_failure(self, error: BaseException) -> None:
        extra = {"call_id": self.call_id}
        if isinstance(error, WrongReplyError):
            log.error("wrong reply", extra=extra | {"reason": str(error)})
        elif not (self.ended and isinstance(error, asyncio.CancelledError)):
            log.error("handler raised", exc_info=error, extra=extra)
