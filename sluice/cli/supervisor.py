"""`sluice serve`: keeps gateway and registry running on this machine."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Final

from sluice.backoff import Backoff, no_jitter
from sluice.cli.child import Child, Program
from sluice.cli.errors import CommandError

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
STABLE_SECONDS: Final = 60.0
log = logging.getLogger(__name__)


class Supervisor:
    """Runs programs until it is stopped; one that dies is restarted with back-off.

    A program that ends before it was healthy for the first time ends the supervisor: a restart
    does not cure a taken port or a bad setting.
    """

    def __init__(self, programs: Sequence[Program], echo: bool, kill_after: float) -> None:
        self._children = [Child(program, echo) for program in programs]
        self._stopping = asyncio.Event()
        self._kill_after = kill_after

    async def run(self, ready: Callable[[], None], start_timeout: float) -> None:
        """Run until SIGTERM or SIGINT. Raises CommandError when the start fails."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        try:
            await self._await_start(keepers, start_timeout)
            if not self._stopping.is_set():
                ready()
                await self._stopping.wait()
        finally:
            self._stopping.set()
            await self._stop(keepers)

    async def _await_start(self, keepers: list[asyncio.Task[None]], seconds: float) -> None:
        healthy = asyncio.create_task(self._all_healthy())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait(
                [healthy, stopped, *keepers],
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            healthy.cancel()
            stopped.cancel()
        for keeper in keepers:
            if keeper in done:
                await keeper
        if not done:
            raise CommandError(f"not ready after {seconds:.0f} s; see the logs folder")

    async def _all_healthy(self) -> None:
        for child in self._children:
            await child.healthy()

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY, no_jitter)
        while not self._stopping.is_set():
            started = loop.time()
            code = await child.run()
            if self._stopping.is_set():
                return
            if not child.was_healthy:
                raise CommandError(_failure(child, code))
            if loop.time() - started > STABLE_SECONDS:
                backoff.reset()
            delay = backoff.next()
            log.warning("program=%s exit=%d restart_in=%.1fs", child.program.name, code, delay)
            await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _stop(self, keepers: list[asyncio.Task[None]]) -> None:
        for child in self._children:
            child.terminate()
        _, late = await asyncio.wait(keepers, timeout=self._kill_after)
        if late:
            for child in self._children:
                child.kill()
        await asyncio.gather(*keepers, return_exceptions=True)


def _failure(child: Child, code: int) -> str:
    lines = "\n".join(child.last_lines) or "it wrote nothing"
    return f"{child.program.name} ended with code {code}:\n{lines}"


def notify(fd: int, message: str) -> None:
    """Write `message` to `fd`, which the starting command reads until its end, and close it."""
    os.write(fd, message.encode())
    os.close(fd)
