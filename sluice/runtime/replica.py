"""The composition of a replica: load, init, listen, report ready, serve, drain."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import uvloop

from sluice import logs
from sluice.http1.server import Limits, Server
from sluice.runtime.process.command_call import ProcessBackend
from sluice.runtime.python.event import Identity, Secrets
from sluice.runtime.python.function import Faults, Form, Function, load_function
from sluice.runtime.python.handler_call import HandlerBackend
from sluice.runtime.reaping import SWEEP_SECONDS, Reaper
from sluice.runtime.serving.application import Application, Backend, FunctionError, ServerState
from sluice.runtime.serving.metrics import Metrics
from sluice.runtime.serving.status import StatusPipe
from sluice.runtime.settings import RuntimeSettings

FAILED: Final = 1
# Seconds by which threads and tasks that a handler left behind may delay the exit.
EXIT_GRACE: Final = 3.0
# A gateway in front adds fields to heads that its own, tighter limits let through.
LIMITS: Final = Limits(head_bytes=1024 * 1024, head_fields=1000)

log = logging.getLogger("runtime")


class Replica:
    """One replica, from its settings to its exit code."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._status = StatusPipe(settings.status_fd)
        self._metrics = Metrics()
        self._began = time.monotonic()
        self._faults = Faults(settings.bundle)
        self._stop: asyncio.Event | None = None

    def run(self) -> int:
        """Serve until SIGTERM; returns 0, or 1 when the function cannot be served."""
        settings = self._settings
        own = {"function": _function_id(settings), "replica": settings.replica}
        logs.configure(
            settings.log_format, fields={key: value for key, value in own.items() if value}
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            # As PID 1 of a namespace a process ignores them unless it says otherwise.
            signal.signal(number, _leave)
        # A zygote ignores it, and a handler's subprocess would then always seem to exit with 0.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            function = None if settings.process else load_function(settings.bundle)
            pending = self._init(function)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(self._serve(function, pending))
        except (FunctionError, OSError) as error:
            return self._fail(error)

    def _init(self, function: Function | None) -> Any:
        """Run init(); what it returned, which may have to be awaited on the loop."""
        if function is None or function.init is None:
            return None
        return self._faults.of(function.init, "init() ran")

    def _fail(self, error: Exception) -> int:
        reason = str(error)
        log.error("function cannot be served", exc_info=error.__cause__, extra={"reason": reason})
        self._status.failed(reason)
        _exit_within(EXIT_GRACE, FAILED)
        return FAILED

    async def _serve(self, function: Function | None, pending: Any) -> int:
        loop = asyncio.get_running_loop()
        self._stop = stop = asyncio.Event()
        await self._await_init(pending)
        server = ServerState(self._settings, self._metrics, loop, self._replace)
        backend = self._backend(function, server)
        await backend.start()
        http_server = Server(Application(server, backend), LIMITS)
        await self._listen(http_server)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._reap_as_init(loop)
        # What was loaded stays: the collector need not look through the libraries while calls wait.
        gc.freeze()
        self._metrics.start_seconds = time.monotonic() - self._began
        log.info("ready", extra={"seconds": f"{self._metrics.start_seconds:.3f}"})
        self._status.ready()
        await stop.wait()
        await self._drain(http_server, server)
        _exit_within(EXIT_GRACE, 0)
        if not await backend.close():
            _exit_now()
        return 0

    async def _await_init(self, pending: Any) -> None:
        if pending is None or not hasattr(pending, "__await__"):
            return
        try:
            await pending
        except (Exception, SystemExit) as error:
            raise FunctionError(self._faults.reason(error, "init() ran")) from error

    def _identity(self) -> Identity:
        settings = self._settings
        hostname = os.environ.get("HOSTNAME") or settings.replica or socket.gethostname()
        secrets = Secrets(settings.secrets_dir)
        return Identity(hostname, settings.name, settings.namespace, secrets)

    def _backend(self, function: Function | None, server: ServerState) -> Backend:
        if function is None:
            return ProcessBackend(server, os.environ)
        if function.form is Form.ASGI:
            from sluice.runtime.python.asgi import AsgiBackend  # noqa: PLC0415 - only ASGI apps need it

            return AsgiBackend(function.handler)
        return HandlerBackend(function, server, self._identity())

    async def _listen(self, http_server: Server) -> None:
        settings = self._settings
        if settings.listen_fd is not None:
            os.set_inheritable(settings.listen_fd, False)
            await http_server.listen_fd(settings.listen_fd)
        elif settings.socket:
            await http_server.listen_unix(Path(settings.socket))
        else:
            port = await http_server.listen_tcp("0.0.0.0", settings.port)
            log.info("listening", extra={"port": port})

    def _replace(self, reason: str) -> None:
        """Request a replacement from whoever started this, then drain."""
        self._status.replace(reason)
        if self._stop is not None:
            self._stop.set()

    async def _drain(self, http_server: Server, server: ServerState) -> None:
        """Finish the calls that have begun, within write_timeout."""
        server.draining = True
        settings = self._settings
        log.info("draining", extra={"calls": self._metrics.in_flight})
        if settings.healthcheck_interval and not server.replacement_requested:
            # New calls come until the callers have seen ready and health answer 503.
            await asyncio.sleep(settings.healthcheck_interval)
        until = time.monotonic() + settings.write_timeout
        cut = await http_server.close(settings.write_timeout)
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await server.wait_until_idle()
        except TimeoutError:
            cut = max(cut, self._metrics.in_flight)
        if cut:
            log.warning("calls cut at write_timeout", extra={"calls": cut})
        log.info("drained")

    def _reap_as_init(self, loop: asyncio.AbstractEventLoop) -> None:
        if os.getpid() != 1:
            return
        reaper = Reaper()

        def sweep() -> None:
            reaper.sweep(time.monotonic())
            loop.call_later(SWEEP_SECONDS, sweep)

        loop.call_later(SWEEP_SECONDS, sweep)


def _function_id(settings: RuntimeSettings) -> str:
    """`name.namespace` as the gateway's logs have it, as much of it as is known."""
    return ".".join(part for part in (settings.name, settings.namespace) if part)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End a replica that is still starting: there is nothing to drain."""
    _exit_now()


def _exit_now(code: int = 0) -> NoReturn:
    """Exit without waiting for threads, which cannot be stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_within(seconds: float, code: int) -> None:
    """Exit after `seconds` if the interpreter's own shutdown hangs on what a handler left."""
    timer = threading.Timer(seconds, _exit_now, (code,))
    timer.daemon = True
    timer.start()
