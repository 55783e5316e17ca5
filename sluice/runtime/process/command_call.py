"""Runs a command once per call, as the classic watchdog does.

The body streams to the command's stdin while its output is read, so neither blocks the other. The
output is held until the command exits, because its exit code decides the status.
"""

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import Flag, auto
from typing import Any, Final

from sluice.http1.exchange import Exchange, Receiver
from sluice.runtime.process.classic_watchdog import (
    exit_reason,
    first_header,
    request_environ,
    write_log,
)
from sluice.runtime.serving.application import CLIENT_CLOSED, Call, FunctionError, ServerState

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
# How much of a body is held for a command that is still starting; then reading pauses.
PENDING_BYTES: Final = 64 * 1024
# Seconds for which a command's own children may still write to its output after it has exited.
OUTPUT_GRACE: Final = 1.0

log = logging.getLogger("runtime")


class Awaited(Flag):
    """What a response still waits for; the three come in any order."""

    REQUEST = auto()
    EXIT = auto()
    OUTPUT = auto()


class ProcessBackend:
    """Begins calls that each run the command of SLUICE_FPROCESS."""

    def __init__(self, server: ServerState, environ: Mapping[str, str]) -> None:
        """environ: what the command sees, without the request. Raises FunctionError."""
        # As the watchdog splits it: no shell, and two spaces make an empty argument.
        self.arguments = server.settings.process.split(" ")
        self.environ = dict(environ)
        command = self.arguments[0]
        if shutil.which(command, path=environ.get("PATH", os.defpath)) is None:
            raise FunctionError(
                f"SLUICE_FPROCESS: command {command!r} is not an executable file on PATH"
            )

    def begin(self, server: ServerState, exchange: Exchange) -> Receiver:
        return ProcessCall(self, server, exchange)

    async def start(self) -> None:
        pass  # each call starts its command

    async def close(self) -> bool:
        return True


class ProcessCall(Call, asyncio.SubprocessProtocol):
    """One call and the command it runs."""

    __slots__ = (
        "_awaited",
        "_backend",
        "_input",
        "_live_group",
        "_output",
        "_output_size",
        "_received",
        "_task",
        "_timer",
        "_transport",
    )

    def __init__(self, backend: ProcessBackend, server: ServerState, exchange: Exchange) -> None:
        super().__init__(server, exchange)
        self._backend = backend
        self._transport: asyncio.SubprocessTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._input: list[bytes] = []
        self._received = 0
        self._output: list[bytes] = []
        self._output_size = 0
        self._awaited = ~Awaited(0)
        self._live_group: int | None = None  # the command's process group until it is killed
        if self.admitted() and self._acceptable():
            self._begin()

    # The exchange's receiver.

    def body_received(self, data: bytes) -> None:
        self._received += len(data)
        if self.state.ended:
            return
        if self._received > self.server.settings.body_limit:
            self._refuse_body()
            return
        stdin = self._stdin()
        if stdin is not None:
            stdin.write(data)
        elif self._transport is None:
            self._input.append(data)
            if self._received > PENDING_BYTES:
                self.exchange.pause_reading()

    def body_complete(self) -> None:
        self.server.body_complete(self)
        self._awaited &= ~Awaited.REQUEST
        self._close_input()
        self._respond_if_complete()

    def client_gone(self) -> None:
        if not self.state.ended:
            self.server.metrics.clients_gone += 1
            self._kill()
            self.end(CLIENT_CLOSED)

    def writing_paused(self) -> None:
        pass  # the response is one write

    def writing_resumed(self) -> None:
        pass

    # The command's protocol.

    def pause_writing(self) -> None:
        self.exchange.pause_reading()

    def resume_writing(self) -> None:
        self.exchange.resume_reading()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._output_size += len(data)
        if self.state.ended:
            return
        limit = self.server.settings.output_limit
        if self._output_size <= limit:
            self._output.append(data)
            return
        self._kill()
        self.refuse(500, f"the output is larger than {limit} bytes (SLUICE_OUTPUT_LIMIT)")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._awaited &= ~Awaited.OUTPUT
            self._respond_if_complete()
        elif fd == 0:
            # The command reads no more; the rest of the body is read and dropped.
            self.exchange.resume_reading()

    def process_exited(self) -> None:
        self._awaited &= ~Awaited.EXIT
        self.run_ended()
        if Awaited.OUTPUT in self._awaited:
            self.server.loop.call_later(OUTPUT_GRACE, self._give_up_output)
        self._respond_if_complete()

    def _acceptable(self) -> bool:
        length = self.exchange.content_length
        if self.exchange.method not in METHODS:
            self.respond(405, b"", b"")
        elif length is not None and length > self.server.settings.body_limit:
            self._refuse_body()
        elif b"%00" in self.exchange.path:
            self.refuse(400, "the path holds %00: a command's environment cannot")
        return not self.state.ended

    def _begin(self) -> None:
        exchange = self.exchange
        if exchange.expects_continue:
            exchange.send_continue()
        if exchange.content_length or exchange.chunked:
            self.server.expect_body(self)
        self.pin_slot()
        if self.timeout is not None:
            self._timer = self.server.loop.call_later(self.timeout, self._timed_out)
        write_log("Forking fprocess.")
        self._task = self.server.loop.create_task(self._start())

    async def _start(self) -> None:
        backend, settings = self._backend, self.server.settings
        environ = backend.environ
        if settings.cgi_headers:
            environ = environ | request_environ(self.exchange)
        try:
            transport, _ = await self.server.loop.subprocess_exec(
                lambda: self,
                *backend.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT if settings.combine_output else None,
                env=environ,
                start_new_session=True,
            )
        except OSError as error:
            self._not_started(error)
            return
        self._transport = transport
        self._live_group = transport.get_pid()
        self._started()

    def _started(self) -> None:
        if self.state.ended:
            self._kill()
            return
        stdin = self._stdin()
        if stdin is not None:
            for data in self._input:
                stdin.write(data)
        self._input = []
        self._close_input()
        if stdin is None or stdin.get_write_buffer_size() <= PENDING_BYTES:
            self.exchange.resume_reading()

    def _not_started(self, error: OSError) -> None:
        log.error("command cannot start", extra={"call_id": self.call_id, "reason": error.strerror})
        self._stop_timer()
        self.run_ended()
        self.refuse(500, f"the command cannot start: {error.strerror}")

    def _stdin(self) -> asyncio.WriteTransport | None:
        if self._transport is None:
            return None
        pipe: Any = self._transport.get_pipe_transport(0)
        return None if pipe is None or pipe.is_closing() else pipe

    def _close_input(self) -> None:
        stdin = self._stdin()
        if Awaited.REQUEST not in self._awaited and stdin is not None:
            stdin.close()

    def _respond_if_complete(self) -> None:
        """Respond once the command has exited, and its output and the request are read."""
        if self.state.ended or self._awaited:
            return
        self._stop_timer()
        self._kill()
        code = self._transport.get_returncode() if self._transport is not None else None
        output = b"".join(self._output)
        if code == 0:
            self._succeed(output)
        else:
            reason = exit_reason(code or 0)
            log.warning("command failed", extra={"call_id": self.call_id, "reason": reason})
            self.respond(500, b"content-type: text/plain\r\n", f"{reason}\n".encode() + output)

    def _succeed(self, output: bytes) -> None:
        content_type = self.server.settings.content_type.encode("latin-1", "replace")
        if not content_type:
            content_type = first_header(self.exchange, b"content-type")
        lines = b"content-type: %b\r\n" % content_type if content_type else b""
        seconds = time.perf_counter() - self.started
        self.respond(200, lines, output)
        write_log(f"Wrote {len(output)} Bytes - Duration: {seconds:f}s")

    def _refuse_body(self) -> None:
        limit = self.server.settings.body_limit
        self._kill()
        self.refuse(413, f"the request body is larger than {limit} bytes (SLUICE_BODY_LIMIT)")

    def _timed_out(self) -> None:
        self._timer = None
        self.server.metrics.timeouts += 1
        write_log(f"Killing process: {self.server.settings.process}")
        self._kill()
        self.refuse(408, "Killed process.")

    def _give_up_output(self) -> None:
        """The command has exited but a child of it still holds its output: kill that too."""
        self._kill()
        if Awaited.OUTPUT in self._awaited:
            self._awaited &= ~Awaited.OUTPUT
            self._respond_if_complete()
            if self._transport is not None:
                self._transport.close()

    def _kill(self) -> None:
        """Kill the command and all of its process group, once: the id may be reused after."""
        group, self._live_group = self._live_group, None
        if group is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
