"""One supervised program: start it, copy its output to a log, know when it is healthy."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import urllib.parse
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from sluice.http_get import get
from sluice.settings.sockets import socket_address

LOG_BYTES: Final = 10 * 1024 * 1024
LOG_FILES: Final = 3
LINE_BYTES: Final = 256 * 1024
KEPT_LINES: Final = 20
PROBE_INTERVAL: Final = 0.05
PROBE_TIMEOUT: Final = 2.0
PR_SET_PDEATHSIG: Final = 1
LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. health: URL that returns 200 when it serves, `http://` or `unix:PATH`."""

    name: str
    module: str
    environ: Mapping[str, str]
    health: str
    log: Path


class Child:
    """A running program."""

    def __init__(self, program: Program, echo: bool) -> None:
        self.program = program
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.was_healthy = False
        self._log = _log(program, echo)
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        """Start the program and return its exit code; negative for a signal."""
        parent = os.getpid()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.program.module,
            env=dict(self.program.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES,
            # The child must not outlive a supervisor that is killed.
            preexec_fn=lambda: _die_with(parent),
            # A Ctrl-C at the terminal goes to the supervisor, which drains in order.
            start_new_session=True,
        )
        await self._carry_output(self._process)
        return await self._process.wait()

    def terminate(self) -> None:
        """Ask it to drain."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def healthy(self) -> None:
        """Return once the program's health URL returns 200."""
        await await_healthy(self.program)
        self.was_healthy = True

    async def _carry_output(self, process: asyncio.subprocess.Process) -> None:
        output = process.stdout
        assert output is not None  # noqa: S101 (stdout is a PIPE, above)
        while True:
            try:
                line = await output.readuntil()
            except asyncio.IncompleteReadError as end:
                line = end.partial
            except asyncio.LimitOverrunError as overrun:
                line = await output.readexactly(overrun.consumed)
            if not line:
                return
            text = line.decode(errors="replace").rstrip("\n")
            self.last_lines.append(text)
            self._log.info(text)


def _log(program: Program, echo: bool) -> logging.Logger:
    log = logging.getLogger(f"sluice.cli.child.{program.name}")
    log.setLevel(logging.INFO)
    log.propagate = False
    program.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handlers: list[logging.Handler] = [
        RotatingFileHandler(program.log, maxBytes=LOG_BYTES, backupCount=LOG_FILES)
    ]
    if echo:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in log.handlers[:]:
        handler.close()
    log.handlers[:] = handlers
    return log


def _die_with(parent: int) -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


async def await_healthy(program: Program) -> None:
    """Return once the program's health URL returns 200, whichever process started it."""
    while not await _probe(program.health):  # noqa: ASYNC110 (no event reports it)
        await asyncio.sleep(PROBE_INTERVAL)


async def _probe(health: str) -> bool:
    """Whether a health URL, `unix:` and a socket's path or an http URL, gives status 200."""
    address: str | tuple[str, int]
    if health.startswith("unix:"):
        address, path = socket_address(Path(health.removeprefix("unix:"))), "/healthz"
    else:
        url = urllib.parse.urlsplit(health)
        address, path = (url.hostname or "", url.port or 80), url.path
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            return (await get(address, path)).status == 200
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
